"""The datasets that need no upload. To add one, add its file and its line here."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from models.data.builtin.source import Builtin

__all__ = ["BUILTIN", "Builtin"]

_MODULES = (
    "digits",
    "diabetes",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "imdb",
)


def _sources() -> dict[str, Builtin]:
    sources: list[Builtin] = [import_module(f"{__name__}.{module}").SOURCE for module in _MODULES]
    return {source.name: source for source in sources}


BUILTIN: Mapping[str, Builtin] = MappingProxyType(_sources())
