"""Schedules: how far a change has come after so many steps, from 0 to 1, without units.

What a schedule drives is named where it is used: the number of synapses for budgets, a threshold, a drop
fraction. A schedule is plain data (a name and numbers), so that it can live in an optimizer's parameter group and
in a checkpoint that holds no code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from synaprune.errors import UsageError, nearest

__all__ = ["SHAPES", "Schedule", "check", "constant", "cosine", "cubic", "linear", "progress", "sine"]

Schedule = dict[str, Any]

SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda x: 1.0,
    "linear": lambda x: x,
    "cubic": lambda x: 1.0 - (1.0 - x) ** 3,
    # One curve under the two names it has in the literature: STDS writes a sine, annealing a cosine.
    "sine": lambda x: (1.0 + math.sin(math.pi * (x - 0.5))) / 2.0,
    "cosine": lambda x: (1.0 - math.cos(math.pi * x)) / 2.0,
}


def constant(steps: int, pause: float = 0.0, flat: float = 0.0) -> Schedule:
    """Return the schedule that is at its end as soon as the pause is over."""
    return _schedule("constant", steps, pause, flat)


def linear(steps: int, pause: float = 0.0, flat: float = 0.0) -> Schedule:
    """Return the schedule x."""
    return _schedule("linear", steps, pause, flat)


def cubic(steps: int, pause: float = 0.0, flat: float = 0.0) -> Schedule:
    """Return the schedule 1 − (1−x)³: most of the change comes early (Zhu and Gupta 2017, arXiv 1710.01878).

    >>> schedule = cubic(steps=1000, pause=0.1, flat=0.4)  # nothing before step 100, all done from step 600 on
    >>> [progress(schedule, step) for step in (100, 350, 600, 1000)]
    [0.0, 0.875, 1.0, 1.0]

    Args:
        steps: number of steps of the whole training.
        pause: share of the steps before the change begins.
        flat: share of the steps at the end in which nothing changes any more.

    Raises:
        UsageError: a number out of range, or no time between pause and flat end.
    """
    return _schedule("cubic", steps, pause, flat)


def sine(steps: int, pause: float = 0.0, flat: float = 0.0) -> Schedule:
    """Return the schedule ½(1 + sin π(x−½)), slow at both ends (STDS, Chen et al., ICML 2022)."""
    return _schedule("sine", steps, pause, flat)


def cosine(steps: int, pause: float = 0.0, flat: float = 0.0) -> Schedule:
    """Return the schedule ½(1 − cos πx), which is the same curve as `sine`."""
    return _schedule("cosine", steps, pause, flat)


def progress(schedule: Schedule, step: float) -> float:
    """Return how far the schedule has come after `step` steps: 0 before it begins, 1 when it is over."""
    steps, pause, flat = schedule["steps"], schedule["pause"], schedule["flat"]
    x = (step - pause * steps) / ((1.0 - pause - flat) * steps)
    if x <= 0.0:
        return 0.0
    return SHAPES[schedule["name"]](x) if x < 1.0 else 1.0


def check(schedule: object) -> None:
    """Refuse what is no schedule, or one that leaves no time.

    Raises:
        UsageError: naming the value and what to write in its place.
    """
    if not isinstance(schedule, dict) or set(schedule) != {"name", "steps", "pause", "flat"}:
        raise UsageError(f"schedule={schedule!r} is no schedule; write for instance schedule=cubic(steps=10_000)")
    name, steps, pause, flat = (schedule[key] for key in ("name", "steps", "pause", "flat"))
    if name not in SHAPES:
        hint = nearest(str(name), SHAPES) or f"; there are {', '.join(SHAPES)}"
        raise UsageError(f"there is no schedule {name!r}{hint}")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise UsageError(f"a schedule needs a whole number of at least 1 training steps, not steps={steps!r}")
    for key, share in (("pause", pause), ("flat", flat)):
        if not isinstance(share, int | float) or not 0.0 <= share < 1.0:
            raise UsageError(f"{key}={share!r} of a schedule is not a share of the steps in [0, 1)")
    if pause + flat >= 1.0 or (name != "constant" and (1.0 - pause - flat) * steps <= 0.5):
        raise UsageError(
            f"a schedule with pause={pause} and flat={flat} has no step of its {steps} left to change anything; "
            "lower one of the two"
        )


def _schedule(name: str, steps: int, pause: float, flat: float) -> Schedule:
    schedule = {"name": name, "steps": steps, "pause": pause, "flat": flat}
    check(schedule)
    return schedule
