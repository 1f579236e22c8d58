"""The learning rate of every step, in float64 NumPy: both engines are handed the same numbers."""

import numpy as np

from models.training import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    ScheduleSpec,
    StepSchedule,
)


def learning_rates(
    schedule: ScheduleSpec, peak: float, *, total_steps: int, steps_per_epoch: int
) -> np.ndarray:
    """Learning rates, float64 [total_steps].

    During warm-up step t (from 0) gets (t + 1) / (warmup + 1) of the peak; the schedule proper spans the
    steps after it.
    """
    warmup = min(schedule.warmup_steps, total_steps)
    steps = np.arange(total_steps, dtype=np.float64)
    factors = _factors(schedule, steps, warmup, total_steps, steps_per_epoch)
    rising = (steps + 1) / (warmup + 1)
    return peak * np.where(steps < warmup, rising, factors)


def _factors(
    schedule: ScheduleSpec, steps: np.ndarray, warmup: int, total_steps: int, steps_per_epoch: int
) -> np.ndarray:
    progress = np.clip((steps - warmup) / max(1, total_steps - warmup), 0, 1)
    match schedule:
        case ConstantSchedule():
            return np.ones_like(steps)
        case CosineSchedule(final_fraction=final):
            return final + (1 - final) * (1 + np.cos(np.pi * progress)) / 2
        case LinearSchedule(final_fraction=final):
            return 1 - (1 - final) * progress
        case StepSchedule(every_epochs=every, factor=factor):
            return factor ** (steps // (every * steps_per_epoch))
