"""The architectures. A new one is a folder with `spec.py`, `torch.py` and `jax.py`, and a line here."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Annotated, get_args

from pydantic import Field

from models.architecture import Spec, Tensor
from models.bilstm.spec import BiLSTMSpec
from models.cnn.spec import CNNSpec
from models.convnext.spec import ConvNeXtSpec
from models.distilbert.spec import DistilBERTSpec
from models.framework import Framework
from models.linear.spec import LinearSpec
from models.mlp.spec import MLPSpec
from models.resnet.spec import ResNet18Spec, ResNet34Spec, ResNet50Spec
from models.signature import Signature
from models.transformer.spec import TransformerSpec
from models.vgg.spec import VGG11Spec, VGG16Spec
from models.vit.spec import ViTSpec

AnySpec = (
    LinearSpec
    | MLPSpec
    | CNNSpec
    | ResNet18Spec
    | ResNet34Spec
    | ResNet50Spec
    | VGG11Spec
    | VGG16Spec
    | ConvNeXtSpec
    | ViTSpec
    | BiLSTMSpec
    | TransformerSpec
    | DistilBERTSpec
)
ModelSpec = Annotated[AnySpec, Field(discriminator="architecture")]


def architectures() -> dict[str, type[Spec]]:
    """Every architecture by its name."""
    return {
        name: spec
        for spec in get_args(AnySpec)
        for name in get_args(spec.model_fields["architecture"].annotation)
    }


def stored(spec: Mapping[str, object]) -> Spec:
    """The architecture with its options, from how it was stored."""
    return architectures()[str(spec["architecture"])].model_validate(dict(spec), strict=False)


def implementation(spec: Spec, framework: Framework) -> ModuleType:
    """The module of the architecture's folder written in this framework."""
    return import_module(f"{spec.package}.{framework}")


def check(spec: Spec, signature: Signature) -> None:
    """Raise InvalidInput, naming the field, if the network does not fit the input or the task."""
    spec.check(signature)


def declarations(spec: Spec, signature: Signature) -> dict[str, Tensor]:
    """The canonical tensors by name, in `state_dict` order."""
    return {tensor.name: tensor for tensor in spec.tensors(signature)}


def parameter_count(spec: Spec, signature: Signature) -> int:
    """How many numbers the network learns."""
    return sum(tensor.size for tensor in spec.tensors(signature) if tensor.kind == "parameter")
