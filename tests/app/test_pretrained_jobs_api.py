"""Jobs over HTTP that start from a published checkpoint: settled to its name, or refused before anything is fetched."""

import json
from typing import Any

import httpx
import pytest

from tests.app.serving import Running, assert_problem

IMAGES: dict[str, Any] = {
    "framework": "torch",
    "dataset": "cifar10",
    "model": {"architecture": "resnet18"},
    "training": {"max_steps": 5},
    "init": {"from": "pretrained"},
}
TEXTS: dict[str, Any] = IMAGES | {"dataset": "imdb", "model": {"architecture": "distilbert"}}


def created(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/jobs", json=body)
    assert answer.status_code == 201, answer.text
    job: dict[str, Any] = answer.json()
    return job


def refused(client: httpx.Client, body: dict[str, Any], pointer: str, *hints: str) -> str:
    """The code of the refusal; nothing was created."""
    before = client.get("/jobs").json()["first_id"]
    answer = client.post("/jobs", json=body)
    assert_problem(answer, 422, pointer, *hints)
    assert client.get("/jobs").json()["first_id"] == before
    return str(answer.json()["code"])


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ({"architecture": "resnet18"}, "IMAGENET1K_V1"),
        ({"architecture": "resnet50"}, "IMAGENET1K_V2"),
        ({"architecture": "convnext_tiny"}, "IMAGENET1K_V1"),
        ({"architecture": "vgg11", "dropout": 0.1}, "IMAGENET1K_V1"),
        ({"architecture": "vit"}, "IMAGENET1K_V1"),
    ],
)
def test_pretrained_becomes_the_usual_checkpoint_of_a_network_for_images(
    client: httpx.Client, model: dict[str, Any], name: str
) -> None:
    job = created(client, IMAGES | {"model": model})
    assert job["spec"]["init"] == {"from": {"pretrained": name}}
    assert client.get(f"/jobs/{job['id']}").json()["spec"]["init"] == {"from": {"pretrained": name}}


def test_pretrained_becomes_the_usual_checkpoint_of_a_network_for_texts(client: httpx.Client) -> None:
    job = created(client, TEXTS)
    assert job["spec"]["init"] == {"from": {"pretrained": "distilbert-base-uncased"}}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (IMAGES | {"model": {"architecture": "resnet50"}}, "IMAGENET1K_V1"),
        (TEXTS, "distilbert-base-multilingual-cased"),
    ],
    ids=["images", "texts"],
)
def test_another_checkpoint_is_asked_for_by_its_name(
    client: httpx.Client, body: dict[str, Any], name: str
) -> None:
    job = created(client, body | {"init": {"from": {"pretrained": name}}})
    assert job["spec"]["init"] == {"from": {"pretrained": name}}


def test_what_was_settled_can_be_sent_again(client: httpx.Client) -> None:
    first = created(client, TEXTS)["spec"]
    assert created(client, first)["spec"] == first


def test_grey_images_and_other_sizes_fit(client: httpx.Client) -> None:
    for body in (
        IMAGES | {"dataset": "mnist"},
        IMAGES | {"dataset": "digits"},
        IMAGES | {"dataset": "mnist", "model": {"architecture": "vit"}, "preprocess": {"size": [224, 224]}},
        IMAGES | {"dataset": "mnist", "model": {"architecture": "vit"}, "preprocess": {"size": [64, 64]}},
    ):
        assert created(client, body)["spec"]["init"] == {"from": {"pretrained": "IMAGENET1K_V1"}}


def test_the_backbone_may_be_frozen_or_slowed_down(client: httpx.Client) -> None:
    for given in ({"freeze": "backbone"}, {"backbone_learning_rate": 1e-5}):
        job = created(client, TEXTS | {"training": {"max_steps": 5, **given}})
        ((name, value),) = given.items()
        assert job["spec"]["training"][name] == value


@pytest.mark.parametrize("source", ["pretrained", {"pretrained": "IMAGENET1K_V1"}], ids=["usual", "named"])
@pytest.mark.parametrize(
    ("dataset", "model"),
    [
        ("digits", {"architecture": "linear"}),
        ("diabetes", {"architecture": "mlp"}),
        ("cifar10", {"architecture": "cnn"}),
        ("imdb", {"architecture": "bilstm"}),
        ("imdb", {"architecture": "transformer"}),
        ("cifar10", {"architecture": "resnet18", "stem": "cifar"}),
        ("cifar10", {"architecture": "vgg16", "width": 32}),
        ("cifar10", {"architecture": "vit", "patch_size": 4}),
        ("imdb", {"architecture": "distilbert", "layers": 3}),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else value,
)
def test_where_nothing_was_published_the_options_are_named(
    client: httpx.Client, dataset: str, model: dict[str, Any], source: Any
) -> None:
    body = IMAGES | {"dataset": dataset, "model": model, "init": {"from": source}}
    words = f"No published checkpoint fits these options of '{model['architecture']}'"
    assert refused(client, body, "/init/from", words) == "no_published_checkpoint"


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (IMAGES, "IMAGENET1K_V1"),
        (IMAGES | {"model": {"architecture": "resnet50"}}, "IMAGENET1K_V2, IMAGENET1K_V1"),
        (TEXTS, "distilbert-base-uncased, distilbert-base-cased, distilbert-base-multilingual-cased"),
    ],
    ids=["one", "two", "three"],
)
@pytest.mark.parametrize("name", ["IMAGENET22K", "../../etc/passwd", "imagenet1k_v1", "ü" * 128])
def test_an_unknown_name_is_answered_with_the_known_ones(
    client: httpx.Client, body: dict[str, Any], known: str, name: str
) -> None:
    asked = body | {"init": {"from": {"pretrained": name}}}
    code = refused(client, asked, "/init/from/pretrained", f"{name!r}", f"Known: {known}.")
    assert code == "unknown_checkpoint"


@pytest.mark.parametrize(
    "source",
    [
        *("Pretrained", "imagenet", "", None, 3, [], {}, {"pretrained": ""}, {"pretrained": None}),
        *({"pretrained": ["IMAGENET1K_V1"]}, {"pretrained": "x" * 129}, {"pretrained": "a", "model": "b"}),
    ],
    ids=lambda source: json.dumps(source)[:30],
)
def test_what_is_no_start_is_refused(client: httpx.Client, source: Any) -> None:
    answer = client.post("/jobs", json=IMAGES | {"init": {"from": source}})
    assert_problem(answer, 422)
    assert all(error["pointer"].startswith("/init/from") for error in answer.json()["errors"])


@pytest.mark.parametrize(
    ("body", "pointer", "hint"),
    [
        (TEXTS | {"model": {"architecture": "distilbert", "length": 600}}, "/model/length", "512 positions"),
        (TEXTS | {"model": {"architecture": "resnet18"}}, "/model/architecture", "text-classification"),
        (TEXTS | {"preprocess": {"size": [32, 32]}}, "/preprocess/size", "is for images"),
        (IMAGES | {"model": {"architecture": "distilbert"}}, "/model/architecture", "image-classification"),
        (
            IMAGES | {"model": {"architecture": "vit"}, "preprocess": {"size": [224, 192]}},
            "/model/architecture",
            "square images",
        ),
        (
            IMAGES | {"model": {"architecture": "vit"}, "preprocess": {"size": [40, 40]}},
            "/model/patch_size",
            "do not fill",
        ),
        (
            TEXTS | {"training": {"max_steps": 5, "freeze": "backbone", "backbone_learning_rate": 1e-5}},
            "/training",
            "has no learning rate",
        ),
    ],
    ids=["length", "network", "options", "texts", "oblong", "patches", "frozen"],
)
def test_what_fits_no_network_is_refused_with_its_own_reason(
    client: httpx.Client, body: dict[str, Any], pointer: str, hint: str
) -> None:
    refused(client, body, pointer, hint)


def test_a_checkpoint_is_neither_sought_nor_fetched_when_a_job_is_posted(server: Running) -> None:
    """The server has no torch, and the worker's network and folder are the worker's."""
    created(server.client, TEXTS)
    assert not (server.services.settings.cache_dir / "pretrained").exists()
