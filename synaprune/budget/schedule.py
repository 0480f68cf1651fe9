"""Schedules: how far a change has come after so many steps, from 0 to 1, without units.

What a schedule drives is named where it is used: the number of synapses for budgets, a threshold, a drop
fraction. A schedule is plain data (a name and numbers), so that it can live in an optimizer's parameter group and
in a checkpoint that holds no code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from synaprune.errors import UsageError, nearest
from synaprune.plain import plain

__all__ = ["SHAPES", "Schedule", "check", "constant", "cosine", "cubic", "linear", "progress", "sine", "stairs"]

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


def stairs(steps: int, levels: Sequence[float], hold: float = 0.5, pause: float = 0.0, flat: float = 0.0) -> Schedule:
    """Return the schedule that comes to each of several levels in an equal part of the time, and rests there.

    >>> schedule = stairs(steps=100, levels=[0.8, 1.0], hold=0.6)
    >>> [round(progress(schedule, step), 3) for step in (0, 10, 20, 50, 60, 70, 100)]
    [0.0, 0.4, 0.8, 0.8, 0.9, 1.0, 1.0]

    Args:
        steps: number of steps of the whole training.
        levels: how far the change has come on each of them, rising, the last 1.
        hold: share of the time of a level that the rest takes; before it the change is linear.
        pause: share of the steps before the change begins.
        flat: share of the steps at the end in which nothing changes any more.

    Raises:
        UsageError: a number out of range, or levels that do not rise to 1.
    """
    return _schedule("stairs", steps, pause, flat, levels=list(levels), hold=hold)


def progress(schedule: Schedule, step: float) -> float:
    """Return how far the schedule has come after `step` steps: 0 before it begins, 1 when it is over."""
    steps, pause, flat = schedule["steps"], schedule["pause"], schedule["flat"]
    x = (step - pause * steps) / ((1.0 - pause - flat) * steps)
    if x <= 0.0:
        return 0.0
    if x >= 1.0 or step >= steps:  # rounding may leave x just below 1 at the last step
        return 1.0
    return _climbed(x, schedule["levels"], schedule["hold"]) if "levels" in schedule else SHAPES[schedule["name"]](x)


def check(schedule: object) -> None:
    """Refuse what is no schedule, or one that leaves no time.

    Raises:
        UsageError: naming the value and what to write in its place.
    """
    keys = {"name", "steps", "pause", "flat"}
    if isinstance(schedule, dict) and schedule.get("name") == "stairs":
        keys |= {"levels", "hold"}
    if not isinstance(schedule, dict) or set(schedule) != keys:
        raise UsageError(f"schedule={schedule!r} is no schedule; write for instance schedule=cubic(steps=10_000)")
    name, steps, pause, flat = (schedule[key] for key in ("name", "steps", "pause", "flat"))
    if name == "stairs":
        _check_levels(schedule["levels"], schedule["hold"])
    elif name not in SHAPES:
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


def _climbed(x: float, levels: Sequence[float], hold: float) -> float:
    """Return how far stairs have come at a share x of their time."""
    number = min(int(x * len(levels)), len(levels) - 1)
    before, level = levels[number - 1] if number else 0.0, levels[number]
    within = (x * len(levels) - number) / (1.0 - hold)
    return min(before + (level - before) * within, level) if within < 1.0 else level


def _check_levels(levels: object, hold: object) -> None:
    if not isinstance(levels, list) or not all(isinstance(level, int | float) for level in levels):
        raise UsageError(f"levels={levels!r} of stairs is no list of numbers; write for instance [0.5, 0.8, 1]")
    if not levels or levels[-1] != 1.0 or any(a >= b for a, b in zip([0.0, *levels], levels)):
        raise UsageError(f"levels={levels!r} of stairs must rise from above 0 to 1, the whole change")
    if not isinstance(hold, int | float) or not 0.0 <= hold < 1.0:
        raise UsageError(f"hold={hold!r} of stairs is not a share of the time of a level in [0, 1)")


def _schedule(name: str, steps: int, pause: float, flat: float, **more: Any) -> Schedule:
    schedule: Schedule = plain({"name": name, "steps": steps, "pause": pause, "flat": flat, **more})
    check(schedule)
    return schedule
