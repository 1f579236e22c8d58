"""What a trainer's measurements become in the job's row and curves."""

import pytest

from workers import messages, relay
from workers.reports import Metrics

MEANS = {"train_loss": 0.3, "train_accuracy": 0.9}


def measured(span, values):
    return relay.news(messages.Measured(span=span, step=25, epoch=1, values=values), None)


def test_the_means_of_a_few_steps_are_a_point_and_leave_the_row():
    found = measured("train", MEANS)
    assert found.reports == (Metrics(25, 1, "train", {"loss": 0.3, "accuracy": 0.9}),)
    assert found.metrics == {}


@pytest.mark.parametrize("validation", [{}, {"validation_loss": 0.4}])
def test_the_means_of_an_epoch_have_names_of_their_own(validation):
    found = measured("epoch", {**MEANS, **validation})
    assert found.metrics == MEANS
    assert [(point.step, point.columns) for point in found.reports] == [
        (25, {"epoch_train_loss": 0.3, "epoch_train_accuracy": 0.9}),
        *([(25, validation)] if validation else []),
    ]
