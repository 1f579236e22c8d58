import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, r2_score, root_mean_squared_error

from models.metrics import evaluate, softmax
from models.signature import ImageInput, Signature, TableInput

CLASSES = Signature(task="image-classification", input=ImageInput(height=8, width=8, channels=1), outputs=4)
VALUE = Signature(task="tabular-regression", input=TableInput(features=1, columns=("a",)), outputs=1)


def test_classification_metrics_are_scikit_learns():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(50, 4)).astype(np.float32) * 3
    targets = generator.integers(0, 4, 50)
    found = evaluate([logits[:32], logits[32:]], targets, CLASSES)
    assert found["loss"] == pytest.approx(log_loss(targets, softmax(logits), labels=range(4)), rel=1e-9)
    assert found["accuracy"] == accuracy_score(targets, logits.argmax(1))


def test_regression_metrics_are_scikit_learns_in_the_targets_own_units():
    generator = np.random.default_rng(0)
    raw = generator.normal(150, 80, 60)
    standardised = ((raw - 150) / 80).astype(np.float32)
    predicted = standardised + generator.normal(size=60).astype(np.float32) / 3
    found = evaluate([predicted[:, None]], standardised, VALUE, target_std=80)
    in_units = predicted.astype(np.float64) * 80 + 150
    assert found["rmse"] == pytest.approx(root_mean_squared_error(raw, in_units), rel=1e-5)
    assert found["mae"] == pytest.approx(mean_absolute_error(raw, in_units), rel=1e-5)
    assert found["r2"] == pytest.approx(r2_score(raw, in_units), rel=1e-5)


def test_extreme_logits_do_not_overflow():
    logits = np.array([[1e4, -1e4, 0, 0]], np.float32)
    assert evaluate([logits], np.array([0]), CLASSES)["loss"] == 0
    assert softmax(logits)[0, 0] == 1
