import numpy as np
import pytest
import torch

from models.schedules import learning_rates
from models.training import ConstantSchedule, CosineSchedule, LinearSchedule, StepSchedule


def rates(schedule, total=20, per_epoch=5, peak=0.1):
    return learning_rates(schedule, peak, total_steps=total, steps_per_epoch=per_epoch)


def torch_rates(make, total=20):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


def test_cosine_is_torchs_cosine_annealing():
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=20))
    np.testing.assert_allclose(rates(CosineSchedule()), expected, rtol=1e-9)


def test_step_is_torchs_step_lr_counted_in_epochs():
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=10, gamma=0.5))
    np.testing.assert_allclose(rates(StepSchedule(every_epochs=2, factor=0.5)), expected, rtol=1e-12)


def test_linear_is_torchs_linear_lr():
    expected = torch_rates(lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.25, total_iters=20))
    np.testing.assert_allclose(rates(LinearSchedule(final_fraction=0.25)), expected, rtol=1e-9)


@pytest.mark.parametrize("schedule", [ConstantSchedule, CosineSchedule, StepSchedule, LinearSchedule])
def test_warm_up_rises_in_a_straight_line_to_the_peak(schedule):
    found = rates(schedule(warmup_steps=4))
    np.testing.assert_allclose(found[:5], [0.02, 0.04, 0.06, 0.08, 0.1], rtol=1e-12)
    assert (np.diff(found[4:]) <= 0).all()


def test_a_warm_up_longer_than_the_run_still_rises():
    found = rates(CosineSchedule(warmup_steps=100), total=10)
    assert (np.diff(found) > 0).all()
    assert found[-1] < 0.1
