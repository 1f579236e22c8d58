import json

import pytest
from pydantic import ValidationError

from models.catalog import architectures
from models.errors import InvalidInput
from models.job import JobSpec
from models.signature import ImageInput, Signature, TableInput
from models.training import TrainingSpec, resolve

IMAGES = Signature(task="image-classification", input=ImageInput(height=8, width=8, channels=1), outputs=10)
TABLE = Signature(task="tabular-regression", input=TableInput(features=2, columns=("a", "b")), outputs=1)


def training(**fields):
    return TrainingSpec.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize("name", architectures())
def test_every_default_is_filled_in_and_what_was_given_stays(name):
    found = resolve(architectures()[name](), training(epochs=3, seed=7), IMAGES, 1300)
    assert found.batch_size is not None
    assert found.optimizer is not None
    assert found.schedule is not None
    assert (found.epochs, found.seed) == (3, 7)


def test_a_given_optimizer_is_not_mixed_with_the_default_one():
    found = resolve(architectures()["cnn"](), training(epochs=1, optimizer={"name": "sgd"}), IMAGES, 1300)
    assert found.optimizer.model_dump() == {
        "name": "sgd",
        "learning_rate": 0.1,
        "momentum": 0.0,
        "nesterov": False,
        "weight_decay": 0.0,
    }


def test_a_resolved_spec_survives_json():
    found = resolve(architectures()["cnn"](), training(epochs=1, augment=["flip"]), IMAGES, 1300)
    assert TrainingSpec.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(("rows", "expected"), [(100_000, 64), (300, 32), (100, 8), (5, 5)])
def test_the_default_batch_leaves_a_small_dataset_several_steps(rows, expected):
    assert resolve(architectures()["mlp"](), training(epochs=1), IMAGES, rows).batch_size == expected


@pytest.mark.parametrize(
    ("fields", "signature", "pointer"),
    [
        ({"batch_size": 101}, IMAGES, "/training/batch_size"),
        ({"augment": ["flip"]}, TABLE, "/training/augment"),
        ({"label_smoothing": 0.1}, TABLE, "/training/label_smoothing"),
        ({"early_stopping": {"metric": "validation_r2"}}, IMAGES, "/training/early_stopping/metric"),
        ({"early_stopping": {"metric": "validation_accuracy"}}, TABLE, "/training/early_stopping/metric"),
    ],
)
def test_options_that_do_not_fit_are_refused_with_their_field(fields, signature, pointer):
    with pytest.raises(InvalidInput) as caught:
        resolve(architectures()["mlp"](), training(epochs=1, **fields), signature, 100)
    assert caught.value.pointer == pointer


def test_a_batch_of_one_is_refused_where_batch_norm_could_not_take_it():
    resnet = architectures()["resnet18"]
    with pytest.raises(InvalidInput) as caught:
        resolve(resnet(), training(epochs=1, batch_size=1), IMAGES, 100)
    assert caught.value.pointer == "/training/batch_size"
    larger = Signature(
        task="image-classification", input=ImageInput(height=40, width=8, channels=3), outputs=2
    )
    assert resolve(resnet(), training(epochs=1, batch_size=1), larger, 100).batch_size == 1
    assert resolve(architectures()["cnn"](), training(epochs=1, batch_size=1), IMAGES, 100).batch_size == 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"epochs": 0},
        {"epochs": 1, "batch_size": 0},
        {"epochs": "3"},
        {"epochs": 1, "optimizer": {"name": "sgd", "learning_rate": -1}},
        {"epochs": 1, "optimizer": {"name": "sgd", "nesterov": True}},
        {"epochs": 1, "optimizer": {"name": "rmsprop"}},
        {"epochs": 1, "optimizer": {"name": "adam", "momentum": 0.9}},
        {"epochs": 1, "schedule": {"name": "cosine", "every_epochs": 2}},
        {"epochs": 1, "precision": "float16"},
        {"epochs": 1, "augment": ["rotate"]},
        {"epochs": 1, "seed": -1},
    ],
)
def test_a_wrong_training_spec_is_refused(fields):
    with pytest.raises(ValidationError):
        training(**fields)


def test_a_job_reads_the_documented_example():
    body = {
        "framework": "torch",
        "dataset": "digits",
        "model": {"architecture": "resnet18", "stem": "cifar"},
        "training": {
            "epochs": 5,
            "batch_size": 128,
            "seed": 0,
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": {"name": "cosine", "warmup_steps": 100},
            "augment": ["flip", "crop"],
            "precision": "float32",
        },
        "init": {"from": "scratch"},
        "name": "digits-resnet",
        "metadata": {"team": "vision"},
    }
    spec = JobSpec.model_validate_json(json.dumps(body))
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert json.loads(spec.model_dump_json())["init"] == {"from": "scratch"}


@pytest.mark.parametrize("source", [{"model": "a@3"}, {"job": "job_01"}])
def test_a_job_may_start_from_a_model_or_a_job(source):
    body = {
        "framework": "jax",
        "dataset": "digits",
        "model": {"architecture": "cnn"},
        "training": {"epochs": 1},
        "init": {"from": source},
    }
    spec = JobSpec.model_validate_json(json.dumps(body))
    assert json.loads(spec.model_dump_json())["init"] == {"from": source}


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"epochs": 30}, 100),
        ({"epochs": 1}, 5),
        ({"epochs": 30, "max_steps": 40}, 4),
        ({"epochs": 1, "batch_size": 32}, 23),
        ({"epochs": 1, "schedule": {"name": "cosine", "warmup_steps": 70}}, 70),
    ],
)
def test_the_usual_warm_up_takes_a_tenth_of_a_run_at_most(fields, steps):
    images = Signature(
        task="image-classification", input=ImageInput(height=28, width=28, channels=1), outputs=10
    )
    spec = architectures()["resnet18"](stem="cifar")
    assert resolve(spec, training(**fields), images, 7500).schedule.warmup_steps == steps
