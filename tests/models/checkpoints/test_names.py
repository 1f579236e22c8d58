"""Names that other libraries and older versions give to tensors, against the ones that the specs declare."""

import re

import ml_dtypes
import numpy as np
import pytest
import torch
import torchvision
from transformers import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from models.catalog import architectures, declarations, implementation
from models.checkpoints.names import canonical
from models.signature import ImageInput, Signature, TableInput, TokenInput

SPECS = architectures()
IMAGENET = Signature(
    task="image-classification", input=ImageInput(height=224, width=224, channels=3), outputs=1000
)
SMALL_IMAGES = Signature(
    task="image-classification", input=ImageInput(height=32, width=32, channels=3), outputs=10
)
TABLE = Signature(
    task="tabular-classification", input=TableInput(features=4, columns=tuple("abcd")), outputs=3
)
TEXT = Signature(task="text-classification", input=TokenInput(vocabulary=30, length=16, padding=0), outputs=2)
DISTILBERT = {"layers": 2, "heads": 2, "hidden": 8, "mlp": 12, "positions": 40, "length": 16}
CONFIG = DistilBertConfig(
    n_layers=2, n_heads=2, dim=8, hidden_dim=12, max_position_embeddings=40, vocab_size=30
)


def torchvisions(name):
    return lambda spec, signature: torchvision.models.get_model(name, weights=None)


def ours(spec, signature):
    return implementation(spec, "torch").build(spec, signature)


CONVOLUTIONAL = ("resnet18", "resnet34", "resnet50", "vgg11", "vgg16", "convnext_tiny")
NETWORKS = {
    "linear": (SPECS["linear"](), TABLE, ours),
    "mlp": (SPECS["mlp"](hidden=(6, 5)), TABLE, ours),
    "cnn": (SPECS["cnn"](width=4, stages=2), SMALL_IMAGES, ours),
    **{name: (SPECS[name](), IMAGENET, torchvisions(name)) for name in CONVOLUTIONAL},
    "vit": (SPECS["vit"](), IMAGENET, torchvisions("vit_b_16")),
    "bilstm": (SPECS["bilstm"](embedding=6, hidden=5), TEXT, ours),
    "transformer": (SPECS["transformer"](layers=2, heads=2, hidden=8, mlp=12, length=16), TEXT, ours),
    "distilbert": (SPECS["distilbert"](**DISTILBERT), TEXT, lambda *_: DistilBertForSequenceClassification(CONFIG)),
}  # fmt: skip
WRAPPERS = ("", "module.", "_orig_mod.", "model.", "module._orig_mod.", "net.")


def numbered(network):
    """The module's tensors, each of one number of its own, which takes no room."""
    return {
        name: np.broadcast_to(np.int64(place) if tensor.dtype == torch.int64 else np.float32(place), tensor.shape)
        for place, (name, tensor) in enumerate(network.state_dict().items())
    }  # fmt: skip


@pytest.fixture(scope="module", params=SPECS)
def published(request):
    """An architecture with its tensors as torchvision, transformers or we ourselves save them."""
    spec, signature, build = NETWORKS[request.param]
    with torch.device("meta"):
        network = build(spec, signature)
    return request.param, declarations(spec, signature), numbered(network)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        assert found[name].flat[0] == array.flat[0], name


def test_published_names_are_the_declared_ones(published):
    _, declared, weights = published
    found = canonical(weights, declared.keys())
    assert {name: array.shape for name, array in found.items()} == {
        name: tensor.shape for name, tensor in declared.items()
    }
    assert all(array.dtype == declared[name].dtype for name, array in found.items())
    assert_same(found, weights)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapper_around_the_whole_network_is_taken_off(published, wrapper):
    _, declared, weights = published
    wrapped = {f"{wrapper}{name}": array for name, array in weights.items()}
    assert_same(canonical(wrapped, declared.keys()), weights)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_older_names_become_the_declared_ones(published, wrapper):
    name, declared, weights = published
    older = {f"{wrapper}{_older(name, key)}": array for key, array in weights.items()}
    older = {key: array for key, array in older.items() if not key.endswith("num_batches_tracked")}
    found = canonical(older, declared.keys())
    counters = {key: np.zeros((), np.int64) for key in weights if key.endswith("num_batches_tracked")}
    assert_same(found, weights | counters)


def _older(architecture, name):
    """How files have it that are older than torch's counters, torchvision 0.14 and BERT in torch."""
    if architecture == "vit":
        return re.sub(r"\.mlp\.([03])\.", lambda found: f".mlp.linear_{1 if found[1] == '0' else 2}.", name)
    if architecture == "distilbert":
        return re.sub(
            r"(norm|Norm)\.(weight|bias)$",
            lambda found: f"{found[1]}.{'gamma' if found[2] == 'weight' else 'beta'}",
            name,
        )
    return name


def test_the_older_names_differ_where_they_are_said_to():
    for name, count in (("vit", 48), ("distilbert", 10)):
        spec, signature, _ = NETWORKS[name]
        declared = declarations(spec, signature)
        assert sum(_older(name, key) != key for key in declared) == count


# --- DistilBERT without the classifier ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def distilbert():
    return declarations(SPECS["distilbert"](**DISTILBERT), TEXT).keys()


def tensors(network):
    with torch.device("meta"):
        return numbered(network(CONFIG))


def backbone(names):
    return {name for name in names if name.startswith("distilbert.")}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_the_heads_that_guess_masked_words_are_dropped(distilbert, wrapper):
    published = tensors(DistilBertForMaskedLM) | {
        "vocab_projector.weight": np.zeros((30, 8), np.float32),
        "distilbert.embeddings.position_ids": np.arange(40)[None],
    }
    assert {"vocab_transform.weight", "vocab_layer_norm.bias", "vocab_projector.bias"} < published.keys()
    found = canonical({f"{wrapper}{name}": array for name, array in published.items()}, distilbert)
    assert found.keys() == backbone(distilbert)
    assert_same(found, {name: array for name, array in published.items() if name in found})


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_backbone_gets_the_root_that_it_was_saved_without(distilbert, wrapper):
    alone = tensors(DistilBertModel) | {"embeddings.position_ids": np.arange(40)[None]}
    older = {f"{wrapper}{_older('distilbert', name)}": array for name, array in alone.items()}
    found = canonical(older, distilbert)
    assert found.keys() == backbone(distilbert)
    assert_same(
        {name.removeprefix("distilbert."): array for name, array in found.items()},
        {name: array for name, array in alone.items() if name != "embeddings.position_ids"},
    )


def test_a_backbone_may_have_our_classifier_beside_it(distilbert):
    both = tensors(DistilBertModel) | {"classifier.weight": np.zeros((2, 8)), "classifier.bias": np.zeros(2)}
    assert canonical(both, distilbert).keys() == backbone(distilbert) | {
        "classifier.weight",
        "classifier.bias",
    }


# --- others -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16, np.float32, np.int32])
def test_every_number_becomes_float32_and_counters_int64(dtype):
    spec, signature, build = NETWORKS["cnn"]
    declared = declarations(spec, signature)
    weights = {name: tensor.numpy() for name, tensor in build(spec, signature).state_dict().items()}
    found = canonical({name: array.astype(dtype) for name, array in weights.items()}, declared.keys())
    assert {name: array.dtype for name, array in found.items()} == {
        name: np.dtype(tensor.dtype) for name, tensor in declared.items()
    }
    for name, array in weights.items():
        np.testing.assert_array_equal(found[name], array.astype(dtype).astype(np.float32))


def test_what_is_float32_already_is_not_copied():
    weights = {"linear.weight": np.ones((2, 3), np.float32), "linear.bias": np.ones(2, np.float32)}
    found = canonical(weights, ["linear.weight", "linear.bias"])
    assert all(np.shares_memory(found[name], array) for name, array in weights.items())


def test_counters_are_added_only_to_layers_that_are_there():
    spec, signature, _ = NETWORKS["cnn"]
    declared = declarations(spec, signature)
    norm = next(name.rpartition(".")[0] for name in declared if name.endswith("running_mean"))
    found = canonical({f"{norm}.weight": np.ones(4, np.float32)}, declared.keys())
    assert found.keys() == {f"{norm}.weight", f"{norm}.num_batches_tracked"}


def test_names_of_another_network_stay():
    """So that an error can tell them."""
    weights = {"bert.pooler.weight": np.ones(1, np.float32), "cls.bias": np.ones(1, np.float32)}
    assert canonical(weights, ["linear.weight", "linear.bias"]).keys() == weights.keys()
    assert canonical({}, ["linear.weight", "linear.bias"]) == {}


def test_a_name_that_the_network_has_is_never_taken_for_an_older_one():
    found = canonical({"scale.gamma": np.ones(1), "scale.beta": np.ones(1)}, ["scale.gamma", "scale.bias"])
    assert found.keys() == {"scale.gamma", "scale.bias"}


def test_two_names_for_one_tensor_both_stay():
    """None of them is silently left out; who fits them to the network refuses the one that it does not know."""
    weights = {"norm.weight": np.full(1, 2, np.float32), "norm.gamma": np.full(1, 3, np.float32)}
    assert_same(canonical(weights, ["norm.weight", "norm.bias"]), weights)
