"""Which published checkpoint a job means."""

import pytest

from models.catalog import architectures
from models.checkpoints.choice import chosen
from models.errors import InvalidInput
from models.job import FromJob, FromModel, FromPretrained, Init

SPECS = architectures()
USUAL = {
    "resnet18": "IMAGENET1K_V1",
    "resnet34": "IMAGENET1K_V1",
    "resnet50": "IMAGENET1K_V2",
    "vgg11": "IMAGENET1K_V1",
    "vgg16": "IMAGENET1K_V1",
    "convnext_tiny": "IMAGENET1K_V1",
    "vit": "IMAGENET1K_V1",
    "distilbert": "distilbert-base-uncased",
}
NAMED = [(name, one.name) for name in USUAL for one in SPECS[name]().published()]
WITHOUT = [
    *((name, {}) for name in SPECS if name not in USUAL),
    ("resnet18", {"stem": "cifar"}),
    ("resnet50", {"stem": "cifar"}),
    ("vgg11", {"width": 32}),
    ("vgg16", {"hidden": 512}),
    ("convnext_tiny", {"depths": (3, 3, 3, 3)}),
    ("vit", {"patch_size": 8}),
    ("vit", {"heads": 16}),
    ("distilbert", {"layers": 3}),
    ("distilbert", {"positions": 256}),
]


def init(name=None):
    return Init(source="pretrained" if name is None else FromPretrained(pretrained=name))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("source", ["scratch", FromModel(model="m"), FromJob(job="j")], ids=str)
def test_other_starts_need_no_checkpoint(name, source):
    assert chosen(SPECS[name](), Init(source=source)) is None


@pytest.mark.parametrize(("name", "usual"), USUAL.items())
def test_pretrained_means_the_usual_checkpoint(name, usual):
    found = chosen(SPECS[name](), init())
    assert found is not None
    assert found.name == usual
    assert chosen(SPECS[name](), init(usual)) == found


@pytest.mark.parametrize(("name", "checkpoint"), NAMED)
def test_every_checkpoint_is_chosen_by_its_name(name, checkpoint):
    found = chosen(SPECS[name](), init(checkpoint))
    assert found is not None
    assert found.name == checkpoint


def test_options_choose_among_the_vision_transformers():
    large = SPECS["vit"](patch_size=32, layers=24, heads=16, hidden=1024, mlp=4096)
    found = chosen(large, init())
    assert found is not None
    assert found.reference == "ViT_L_32_Weights.IMAGENET1K_V1"


def test_what_is_dropped_in_training_does_not_count():
    assert chosen(SPECS["vit"](dropout=0.1), init()) is not None
    assert chosen(SPECS["distilbert"](dropout=0.0, length=64), init()) is not None


@pytest.mark.parametrize("name", ["resnet50", "distilbert"])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
    with pytest.raises(InvalidInput) as caught:
        chosen(SPECS[name](), init("IMAGENET21K"))
    known = ", ".join(one.name for one in SPECS[name]().published())
    assert caught.value.detail.endswith(f"has no published checkpoint 'IMAGENET21K'. Known: {known}.")
    assert caught.value.pointer == "/init/from/pretrained"
    assert caught.value.specific_code == "unknown_checkpoint"


@pytest.mark.parametrize("checkpoint", [None, "IMAGENET1K_V1"])
@pytest.mark.parametrize(("name", "options"), WITHOUT)
def test_options_that_nothing_was_published_for_are_refused(name, options, checkpoint):
    with pytest.raises(
        InvalidInput, match=f"No published checkpoint fits these options of '{name}'"
    ) as caught:
        chosen(SPECS[name](**options), init(checkpoint))
    assert caught.value.pointer == "/init/from"
    assert caught.value.specific_code == "no_published_checkpoint"
