"""Errors in job specs: each names the field and what would have been right."""

import json
from typing import Any

import pytest

from app.bodies import parse
from models.errors import InvalidInput
from models.job import JobSpec

GOOD: dict[str, Any] = {
    "framework": "torch",
    "dataset": "digits",
    "model": {"architecture": "cnn"},
    "training": {"epochs": 1},
}


def test_a_good_spec_is_taken() -> None:
    assert parse(JobSpec, json.dumps(GOOD).encode()).dataset == "digits"


@pytest.mark.parametrize(
    ("changes", "pointer", "hint"),
    [
        ({"framework": "tourch"}, "/framework", "Did you mean 'torch'?"),
        ({"framework": 3}, "/framework", "Known: torch, jax"),
        ({"datset": "x"}, "/datset", "Did you mean 'dataset'?"),
        ({"dataset": None}, "/dataset", "valid string"),
        ({"model": {"architecture": "resnet-18"}}, "/model/architecture", "Did you mean 'resnet18'?"),
        ({"model": {}}, "/model/architecture", "'architecture' is required. Known: "),
        ({"model": "cnn"}, "/model", "object"),
        ({"model": {"architecture": "resnet18", "stm": "cifar"}}, "/model/stm", "Did you mean 'stem'?"),
        ({"model": {"architecture": "resnet18", "stem": "cifr"}}, "/model/stem", "Did you mean 'cifar'?"),
        ({"model": {"architecture": "mlp", "hidden": [8, 0]}}, "/model/hidden/1", "Item 1 of 'hidden'"),
        ({"training": {}}, "/training", "'epochs' or 'max_steps'"),
        ({"training": {"epochs": "5"}}, "/training/epochs", "valid integer"),
        ({"training": {"epochs": 0}}, "/training/epochs", "greater than or equal to 1"),
        ({"training": {"epochs": 1, "lr": 1}}, "/training/lr", "Unknown field 'lr'"),
        (
            {"training": {"epochs": 1, "optimizer": {"name": "sgd", "momntum": 0.9}}},
            "/training/optimizer/momntum",
            "Did you mean 'momentum'?",
        ),
        (
            {"training": {"epochs": 1, "optimizer": {"name": "adma"}}},
            "/training/optimizer/name",
            "Did you mean 'adam",
        ),
        (
            {"training": {"epochs": 1, "optimizer": {"name": "sgd", "nesterov": True}}},
            "/training/optimizer",
            "Nesterov needs a momentum",
        ),
        (
            {"training": {"epochs": 1, "augment": ["flip", "corp"]}},
            "/training/augment/1",
            "Did you mean 'crop'?",
        ),
        (
            {"init": {"from": "pretraind"}},
            "/init/from",
            "'scratch', 'pretrained' or an object with 'pretrained', 'model' or 'job'",
        ),
        ({"init": {"from": {"modle": "x"}}}, "/init/from/modle", "Did you mean 'model'?"),
        ({"init": {"from": {"model": 3}}}, "/init/from/model", "valid string"),
        ({"init": {"form": "scratch"}}, "/init/form", "Did you mean 'from'?"),
        ({"name": "A B"}, "/name", "pattern"),
        ({"metadata": {"a": [1]}}, "/metadata/a", "must be a text or"),
        ({"metadata": {"a/b": {}}}, "/metadata/a~1b", "must be a text or"),
        ({"metadata": {"k" * 65: 1}}, "/metadata/" + "k" * 65, "at most 64 characters"),
        ({"metadata": 4}, "/metadata", "object"),
    ],
)
def test_each_mistake_is_named_with_the_nearest_right_name(
    changes: dict[str, Any], pointer: str, hint: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(JobSpec, json.dumps(GOOD | changes).encode())
    assert [problem.pointer for problem in caught.value.problems] == [pointer]
    assert hint in caught.value.detail


def test_several_mistakes_are_named_together() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(JobSpec, json.dumps(GOOD | {"framework": "keras", "nam": 1, "dataset": 5}).encode())
    assert {problem.pointer for problem in caught.value.problems} == {"/framework", "/nam", "/dataset"}


def test_a_body_that_is_no_object_is_told_so() -> None:
    with pytest.raises(InvalidInput, match="object"):
        parse(JobSpec, b"[]")


def test_long_names_are_not_echoed_whole() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(JobSpec, json.dumps(GOOD | {"x" * 5000: 1}).encode())
    assert len(caught.value.detail) < 300


def test_a_large_body_full_of_mistakes_gets_a_short_answer() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(JobSpec, json.dumps(GOOD | {f"wrong{number}": 1 for number in range(5000)}).encode())
    assert len(caught.value.problems) == 50
    assert "And 47 more." in caught.value.detail
