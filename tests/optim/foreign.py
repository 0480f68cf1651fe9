"""Optimizers as other people write them: what a base may do that none of torch's own does."""

import torch
from torch.optim import Optimizer


class Foreign(Optimizer):
    """Takes `lr` and `weight_decay`; says in `move` how one tensor moves by a gradient."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0, **options):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **options})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, p.grad, group)
        return loss

    def average(self, p, gradient, beta=0.9):
        state = self.state[p]
        if "average" not in state:
            state["average"] = torch.zeros_like(p)
        return state["average"].mul_(beta).add_(gradient, alpha=1 - beta)


class Lion(Foreign):
    """Decoupled decay (Chen et al. 2023, arXiv 2302.06675)."""

    def move(self, p, gradient, group):
        p.mul_(1 - group["lr"] * group["weight_decay"])
        state = self.state[p]
        if not state:
            state["average"] = torch.zeros_like(p)
        p.add_(state["average"].mul(0.9).add(gradient, alpha=0.1).sign_(), alpha=-group["lr"])
        state["average"].mul_(0.99).add_(gradient, alpha=0.01)


class CoupledMomentum(Foreign):
    def move(self, p, gradient, group):
        p.sub_(self.average(p, gradient + group["weight_decay"] * p), alpha=float(group["lr"]))


class FixedDecay(Foreign):
    """A decay that the learning rate has no part in."""

    def move(self, p, gradient, group):
        p.mul_(1 - group["weight_decay"])
        p.sub_(self.average(p, gradient), alpha=float(group["lr"]))


class Switchable(Foreign):
    """Coupled or decoupled by an option of the group."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0, apart=False):
        super().__init__(params, lr, weight_decay, apart=apart)

    def move(self, p, gradient, group):
        if group["apart"]:
            p.mul_(1 - group["lr"] * group["weight_decay"])
        else:
            gradient = gradient + group["weight_decay"] * p
        p.sub_(self.average(p, gradient), alpha=float(group["lr"]))


class Rebinding(Foreign):
    """Puts a new state in the place of the old one at each step."""

    def move(self, p, gradient, group):
        old = self.state[p].get("average", torch.zeros_like(p))
        self.state[p] = {"average": 0.9 * old + gradient, "step": self.state[p].get("step", 0) + 1}
        p.sub_(self.state[p]["average"], alpha=float(group["lr"]))


class RebindingAll(Foreign):
    """Puts a plain dictionary in the place of all states at each step."""

    def step(self, closure=None):
        self.state = dict(self.state)
        return super().step(closure)

    def move(self, p, gradient, group):
        self.state[p] = {"average": 0.9 * self.state.get(p, {}).get("average", torch.zeros_like(p)) + gradient}
        p.sub_(self.state[p]["average"], alpha=float(group["lr"]))


class Counting(Foreign):
    """Counts steps for all tensors together, beside their states; from the beginning or from the first step on."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0, early=True):
        super().__init__(params, lr, weight_decay)
        if early:
            self.state["k"] = torch.tensor([0])

    @torch.no_grad()
    def step(self, closure=None):
        if "k" not in self.state:
            self.state["k"] = torch.tensor([0])
        self.state["k"] += 1
        self.state["history"] = [*self.state.get("history", []), int(self.state["k"])]
        return super().step(closure)

    def move(self, p, gradient, group):
        p.sub_(self.average(p, gradient), alpha=group["lr"] / len(self.state["history"]) ** 0.5)


class ScheduleFree(Foreign):
    """Weights between two sequences; what is common to a group is kept in the group (Defazio et al. 2024)."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, lr, weight_decay, k=0, weight_sum=0.0)

    def step(self, closure=None):
        for group in self.param_groups:
            group["weight_sum"] += group["lr"] ** 2
            group["k"] += 1
        return super().step(closure)

    def move(self, p, gradient, group):
        if not self.state[p]:
            self.state[p]["z"] = p.clone()
        z, share = self.state[p]["z"], group["lr"] ** 2 / group["weight_sum"]
        gradient = gradient.add(p, alpha=group["weight_decay"])
        p.lerp_(z, share).sub_(gradient, alpha=group["lr"] * (0.9 * (1 - share)))
        z.sub_(gradient, alpha=float(group["lr"]))


class Evaluating(ScheduleFree):
    """The same, as it is published: other weights are to be evaluated than are trained."""

    def eval(self):
        pass

    def train(self):
        pass


class Lamb(Foreign):
    """A step as long as the weights are large (You et al. 2020, arXiv 1904.00962)."""

    def move(self, p, gradient, group):
        state = self.state[p]
        if not state:
            state["square"] = torch.zeros_like(p)
        state["square"].mul_(0.99).addcmul_(gradient, gradient, value=0.01)
        move = self.average(p, gradient) / (state["square"].sqrt() + 1e-6) + group["weight_decay"] * p
        p.sub_(move * (p.norm() / move.norm().clamp(min=1e-12)), alpha=float(group["lr"]))


class EagerState(Foreign):
    """Makes its states when it is made, as Adagrad does."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0, start=0.5):
        super().__init__(params, lr, weight_decay, start=start)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["sum"] = torch.full_like(p, group["start"])

    def move(self, p, gradient, group):
        gradient = gradient + group["weight_decay"] * p
        self.state[p]["sum"].addcmul_(gradient, gradient)
        p.sub_(gradient / self.state[p]["sum"].sqrt(), alpha=float(group["lr"]))


class OddState(EagerState):
    """Keeps numbers, lists, bytes and booleans for a tensor."""

    def move(self, p, gradient, group):
        state = self.state[p]
        state["seen"] = gradient > 0
        state["codes"] = torch.full_like(p, 7, dtype=torch.uint8)
        state["norms"] = [*state.get("norms", []), float(gradient.norm())]
        super().move(p, gradient, group)


class NeedsClosure(Foreign):
    def step(self, closure):
        return super().step(closure)


class FailsWithoutClosure(Foreign):
    def step(self, closure=None):
        closure()
        return super().step()


class TwiceTheClosure(Foreign):
    """Looks at the loss a second time where there is a closure."""

    def step(self, closure=None):
        if closure is not None:
            closure()
        return super().step(closure)

    def move(self, p, gradient, group):
        p.sub_(gradient, alpha=float(group["lr"]))


class LooksAhead(TwiceTheClosure):
    """Asks for the loss at other weights than those at which it began."""

    def step(self, closure=None):
        if closure is not None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.add_(0.05)
        return Foreign.step(self, closure)


class OwnList(TwiceTheClosure):
    """Moves the tensors that it got when it was made, whatever its groups hold by now."""

    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        self.mine = [p for group in self.param_groups for p in group["params"]]

    def step(self, closure=None):
        for p in self.mine:
            if p.grad is not None:
                self.move(p, p.grad, self.param_groups[0])


class WithoutRate(Optimizer):
    def __init__(self, params, lr=1e-3):
        super().__init__(params, {})

    def step(self, closure=None):
        pass


SERVE = (Lion, CoupledMomentum, FixedDecay, Switchable, Rebinding, RebindingAll, Counting, ScheduleFree, Lamb)
SERVE = {base.__name__: base for base in (*SERVE, EagerState, OddState)}
DECAYS = {
    "Lion": "decoupled",
    "CoupledMomentum": "coupled",
    "FixedDecay": "fixed",
    "EagerState": "coupled",
    "ScheduleFree": "coupled",
}
REFUSED = {
    NeedsClosure: "without a closure",
    FailsWithoutClosure: "without a closure",
    TwiceTheClosure: "evaluates the loss several times",
    LooksAhead: "evaluates the loss several times",
    OwnList: "does not move just those tensors",
    Evaluating: "keeps other weights for evaluation",
    WithoutRate: "no learning rate",
}
