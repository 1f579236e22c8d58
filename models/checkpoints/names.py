"""The names that others give to a network's tensors, turned into its canonical ones."""

import re
from collections import Counter
from collections.abc import Collection

import numpy as np

from models.weights import Weights

_RENAMED = (
    # TensorFlow's names for a layer norm, still found in older files of the BERT family.
    (re.compile(r"\.gamma$"), ".weight"),
    (re.compile(r"\.beta$"), ".bias"),
    # torchvision's vision transformers before 0.14, and every file published for them since.
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
# Heads for guessing masked words, which no classifier has; and positions that newer versions no longer store.
_DROPPED = re.compile(r"^(vocab_transform|vocab_layer_norm|vocab_projector)\.|(^|\.)position_ids$")
_COUNTER = "num_batches_tracked"


def canonical(weights: Weights, known: Collection[str]) -> Weights:
    """The tensors under the network's names, as far as they can be told; others keep theirs, and so do two that would
    get the same one.

    Floats become float32. BatchNorm's counters, which older files lack, start at 0.
    """
    names = _distinct(_rooted(_unwrapped({name: name for name in weights}, known), known))
    found = {
        new: _plain(weights[old], new)
        for old, new in names.items()
        if new in known or not _DROPPED.search(new)
    }
    counters = (name for name in known if name.endswith(f".{_COUNTER}") and name not in found)
    return found | {name: np.zeros((), np.int64) for name in counters if _layer(name) in map(_layer, found)}


def _unwrapped(names: dict[str, str], known: Collection[str]) -> dict[str, str]:
    """Without a first part that all names share and no name of the network has: `module.`, `model.`, `_orig_mod.`"""
    while names:
        first = {name.partition(".")[0] for name in names.values()}
        if len(first) != 1 or first <= _roots(known) or not all("." in name for name in names.values()):
            break
        names = {old: new.partition(".")[2] for old, new in names.items()}
    return {old: _renamed(new, known) for old, new in names.items()}


def _renamed(name: str, known: Collection[str]) -> str:
    for pattern, replacement in _RENAMED:
        name = name if name in known else pattern.sub(replacement, name)
    return name


def _rooted(names: dict[str, str], known: Collection[str]) -> dict[str, str]:
    """With the root that a backbone saved alone leaves out: `embeddings...` is `distilbert.embeddings...`"""
    missing = _roots(known) - _roots(names.values())

    def complete(name: str) -> str:
        found = [f"{root}.{name}" for root in missing if f"{root}.{name}" in known]
        return found[0] if name not in known and len(found) == 1 else name

    return {old: complete(new) for old, new in names.items()}


def _distinct(names: dict[str, str]) -> dict[str, str]:
    count = Counter(names.values())
    return {old: new if count[new] == 1 else old for old, new in names.items()}


def _roots(names: Collection[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _plain(array: np.ndarray, name: str) -> np.ndarray:
    if name.endswith(_COUNTER):
        return array.astype(np.int64, copy=False)
    return array.astype(np.float32, copy=False)
