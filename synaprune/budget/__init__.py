"""How many synapses, where, and by when: schedules, allocations, and the solver that meets them exactly."""

from synaprune.budget.allocation import ALLOCATIONS, allocate, erdos_renyi_kernel, uniform
from synaprune.budget.forms import FORMS, one_form
from synaprune.budget.plan import Plan, due
from synaprune.budget.schedule import SHAPES, Schedule, constant, cosine, cubic, linear, progress, sine, stairs
from synaprune.budget.solve import cutoff, largest, split

__all__ = [
    "ALLOCATIONS",
    "FORMS",
    "SHAPES",
    "Plan",
    "Schedule",
    "allocate",
    "constant",
    "cosine",
    "cubic",
    "cutoff",
    "due",
    "erdos_renyi_kernel",
    "largest",
    "linear",
    "one_form",
    "progress",
    "sine",
    "split",
    "stairs",
    "uniform",
]
