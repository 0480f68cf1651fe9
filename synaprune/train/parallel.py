"""Several processes train one network, started by torchrun: all that is distributed is here.

Each process holds a replica of network and optimizer and works on its share of every batch; `DistributedDataParallel`
averages the gradients, so that all replicas take the same step. The first process alone touches the folder of the
run, and speaks. Without torchrun there is one process, `ALONE`, for which everything here does nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from synaprune.errors import MachineError, NonFiniteGradientError, UsageError
from synaprune.optim.rewirer import Rewirer
from synaprune.train.settings import Settings

__all__ = ["ALONE", "Team", "finish", "place", "record", "restarted", "speaks", "team"]

T = TypeVar("T")

PATIENCE = datetime.timedelta(hours=1)  # torchrun sees at once that a process has died; this is for one that hangs
SHORT = datetime.timedelta(seconds=5)  # for what is asked of torchrun when something has gone wrong
SETTLING = 0.2  # seconds
# What gloo says in an error of no class of its own; NCCL has one.
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "connectFullMesh")
WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


@dataclasses.dataclass(frozen=True)
class Team:
    """The processes that train together, seen from the one of number `rank`."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that touches the folder and speaks."""
        return self.rank == 0

    def share(self, count: int) -> tuple[slice, float]:
        """Return which of so many images are this process's, and the weight of their mean loss.

        With these weights the mean of all processes' gradients is the gradient of the mean over all images, also
        where the shares differ by one image, or one is empty.

        >>> Team(rank=1, size=2).share(6)
        (slice(3, 6, None), 1.0)
        >>> [Team(rank, size=2).share(5) for rank in (0, 1)]
        [(slice(0, 2, None), 0.8), (slice(2, 5, None), 1.2)]
        """
        begin, end = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return slice(begin, end), (end - begin) * self.size / count

    def replica(self, network: nn.Module) -> nn.Module:
        """Return what to call in training in place of the network, whose parameters it moves."""
        if self.size == 1:
            return network
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                # SpikingJelly's layers fold time into the batch and then call this one.
                name = "super_forward" if hasattr(module, "super_forward") else "forward"
                setattr(module, name, functools.partial(_normalised, module, getattr(module, name)))
        # Replicas are equal by construction, which `check` verifies. To copy them over once more would look to a
        # method as if somebody had changed the weights.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch is about to rename `broadcast_buffers`
            return DistributedDataParallel(network, broadcast_buffers=False, init_sync=False)

    def total(self, *figures: Tensor) -> list[Tensor]:
        """Return the sums of these figures over all processes."""
        if self.size > 1:
            for figure in figures:
                dist.all_reduce(figure)
        return list(figures)

    def from_first(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function in the first process, and return in all of them what it returns.

        Where it fails, the first process raises its error, and the others end with the same exit code, silently.
        """
        if self.size == 1:
            return function(*arguments)
        answer: list[Any] = [None, None]
        if self.first:
            try:
                answer[0] = function(*arguments)
            except (UsageError, OSError) as error:
                answer[1] = getattr(error, "exit_code", MachineError.exit_code)
                dist.broadcast_object_list(answer)
                raise
        dist.broadcast_object_list(answer)
        if answer[1] is not None:
            raise SystemExit(answer[1])
        return answer[0]

    def first_before_others(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function in the first process, then in the others: absent data is one sentence, or one download."""
        done: list[T] = []
        self.from_first(lambda: done.append(function(*arguments)))
        return done[0] if done else function(*arguments)

    def check(self, network: nn.Module, optimizer: Rewirer) -> None:
        """Check that all replicas are equal, bit for bit, in weights, buffers and the optimizer's state.

        Raises:
            MachineError: they are not.

        """
        if self.size == 1:
            return
        tree = [network.state_dict(), optimizer.state_dict()]
        where = next(network.parameters()).device  # the base may count its steps on the CPU
        own = torch.stack([_sum_of_words(tensor).to(where) for tensor in _tensors(tree)])
        low, high = own, own.clone()
        dist.all_reduce(low, dist.ReduceOp.MIN)
        dist.all_reduce(high, dist.ReduceOp.MAX)
        if not torch.equal(low, high):
            raise MachineError(
                "the replicas of the network have drifted apart, so that the processes do not compute alike; train on"
                " processors and GPUs of one kind, or with one process"
            )


ALONE = Team()


class _Torchrun:
    """What torchrun holds for its processes, so that they can tell each other something when one is no more."""

    store: dist.Store | None = None
    speaks: bool | None = None


def speaks(unasked: bool = False) -> bool:
    """Whether this process says what all that are left know: the first that asks, for any of them may be no more.

    Before they have met the first process speaks, and with `unasked` all.
    """
    if _Torchrun.store is None:
        return unasked or _number("RANK", 0) == 0
    if _Torchrun.speaks is None:
        try:
            _Torchrun.store.set_timeout(SHORT)
            _Torchrun.speaks = _Torchrun.store.add("speaks", 1) == 1
        except RuntimeError:  # torchrun is no more either
            _Torchrun.speaks = True
    return _Torchrun.speaks


def finish() -> None:
    """Wait in all processes but the first until that has called this too."""
    store = _Torchrun.store
    with contextlib.suppress(RuntimeError):  # torchrun is no more
        if store is not None and _number("RANK", 0) == 0:
            store.set("finished", "")
        while store is not None and not store.check(["finished"]):
            time.sleep(SETTLING)


@contextmanager
def team(settings: Settings, where: torch.device) -> Iterator[Team]:
    """Join the processes that torchrun has started; `ALONE` without it.

    Raises:
        MachineError: another process has ended, or this one alone has failed.

    """
    size, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    if not _launched() or size == 1:
        yield ALONE
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        # torchrun may keep its store over a restart, and with it the addresses of processes that are no more.
        store, *_ = next(iter(rendezvous("env://", rank, size)))
        store = dist.PrefixStore(f"attempt {_number('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        _Torchrun.store, _Torchrun.speaks = store, None
        backend = "nccl" if where.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=size)
        yield Team(rank, size)
    except UsageError as error:
        if rank == 0:
            raise
        if isinstance(error, NonFiniteGradientError):  # all processes have the same gradients, and the first says it
            raise SystemExit(error.exit_code) from error
        raise MachineError(f"process {rank} of {size}: {error}") from error
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(words in str(error) for words in LOST):
            raise
        with contextlib.suppress(KeyboardInterrupt):  # torchrun, which has heard of it too
            _leave()
        if not speaks(unasked=True):
            raise SystemExit(MachineError.exit_code) from error
        raise MachineError(
            f"another of the {size} processes has ended, so that this one cannot go on; all finished epochs are saved,"
            " continue with the same command and --resume"
        ) from error
    finally:
        _leave()


def _leave() -> None:
    """Let go of the other processes."""
    if dist.is_initialized():
        # torch joins gloo's threads while it holds the GIL, and waits forever where one still needs it to let go of
        # a tensor; asleep we do not hold it.
        time.sleep(SETTLING)
        dist.destroy_process_group()


def place(settings: Settings, found: torch.device) -> torch.device:
    """Return the device of this process: on GPUs, each process has its own.

    Raises:
        UsageError: the processes cannot share the batch or the machine.

    """
    size, here = (_number(name, 1) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if not _launched() or size == 1:
        return found
    if settings.batch_size % size:
        raise UsageError(
            f"setting 'batch_size' ({settings.batch_size}) is that of all {size} processes together, which cannot share"
            f" it equally; give --batch-size {max(settings.batch_size // size, 1) * size} or another multiple of {size}"
        )
    if found.type == "cpu":
        return found
    if found.type != "cuda" or found.index is not None:
        raise UsageError(f"{size} processes cannot share device '{found}'; give --device cuda, or cpu")
    if here > torch.cuda.device_count():
        raise UsageError(
            f"there are {torch.cuda.device_count()} GPUs for {here} processes, and each needs its own; lower"
            " --nproc-per-node, or give --device cpu"
        )
    return torch.device("cuda", _number("LOCAL_RANK", 0))


def record() -> dict[str, Any]:
    """Return what to note of torchrun in the header of a run."""
    return {"torchrun": {"job": _job(), "processes": _number("WORLD_SIZE", 1)}} if _launched() else {}


def restarted(header: Mapping[str, Any]) -> bool:
    """Whether torchrun has started this process again after a failure, and the run with this header before."""
    again = _launched() and _number("TORCHELASTIC_RESTART_COUNT", 0) > 0
    return again and header.get("torchrun", {}).get("job") == _job()


def _launched() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def _job() -> str:
    """Return the name of the torchrun that has started this process, the same after a restart."""
    name = os.environ["TORCHELASTIC_RUN_ID"]
    return f"{platform.node()}:{os.getppid()}" if name == "none" else name


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of what each does with it is summed alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _normalised(norm: _BatchNorm, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Normalise `[N, C, ...]` in training by the statistics of all processes' images; torch does so on GPUs alone."""
    if not norm.training:
        return plain(x)
    dims, shape = [0, *range(2, x.dim())], [1, -1, *[1] * (x.dim() - 2)]
    values = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    count = values.new_tensor(x.numel() // x.shape[1])
    dist.all_reduce(count)
    mean = _Sum.apply(values.sum(dims)) / count
    centred = values - mean.view(shape)
    variance = _Sum.apply(centred.square().sum(dims)) / count
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        rate = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.detach(), rate)
        norm.running_var.lerp_(variance.detach() * (count / (count - 1)), rate)
    y = centred * (variance + norm.eps).rsqrt().view(shape)
    if norm.affine:
        y = y * norm.weight.view(shape) + norm.bias.view(shape)
    return y.to(x.dtype)


def _tensors(tree: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested dicts and lists."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, Mapping | list | tuple):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from _tensors(value)


def _sum_of_words(tensor: Tensor) -> Tensor:
    """Return the sum of a tensor's bits, taken as whole numbers."""
    words = tensor.detach().contiguous().reshape(-1).view(WORDS[tensor.element_size()])
    return words.sum(dtype=torch.int64)
