"""A folder of `from_pretrained` as a zip: config.json, model.safetensors and the tokenizer's files.

`AutoModelForSequenceClassification` and `AutoTokenizer` read it once it is unpacked.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from models import tensor_files
from models.catalog import implementation
from models.exports.card import ExportCard
from models.exports.formats import Run
from models.preprocessing import TextPreprocessing
from models.tokenization import parsed
from models.weights import ModelCard, WeightsFile

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "card.json"


def write(model: WeightsFile, card: ExportCard, path: Path) -> None:
    """See `models.exports.formats.Writer`."""
    with TemporaryDirectory(dir=path.parent) as place:
        folder = Path(place)
        (folder / CONFIG).write_text(json.dumps(_config(model.card), indent=2, sort_keys=True))
        (folder / CARD).write_text(card.model_dump_json())
        tensor_files.write(model.weights, folder / WEIGHTS, {"format": "pt"})
        _tokenizer(model.card).save_pretrained(folder)
        with ZipFile(path, "w") as archive:  # uncompressed: weights hardly shrink
            for file in sorted(folder.iterdir()):
                with (
                    file.open("rb") as content,
                    archive.open(ZipInfo(file.name), "w", force_zip64=True) as into,
                ):
                    while piece := content.read(1 << 20):
                        into.write(piece)


def read(path: Path) -> Run:
    """See `models.exports.formats.Writer`."""
    with _unpacked(path) as folder:
        network = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    padding = network.config.pad_token_id

    def run(x: np.ndarray) -> np.ndarray:
        ids = torch.from_numpy(x).long()
        with torch.inference_mode():
            logits: np.ndarray = network(ids, attention_mask=(ids != padding).long()).logits.numpy()
        return logits

    return run


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=path.parent) as folder, ZipFile(path) as archive:
        archive.extractall(folder)
        yield Path(folder)


def _config(card: ModelCard) -> dict[str, Any]:
    """transformers' own, under the name of the class that it belongs to, with the names of the classes."""
    with torch.device("meta"):
        network: Any = implementation(card.model, "torch").build(card.model, card.signature)
    found: dict[str, Any] = network.config.to_dict()
    published = next(kind for kind in type(network).__mro__ if kind.__module__.startswith("transformers."))
    labels = card.classes or tuple(map(str, range(card.signature.outputs)))
    return found | {
        "architectures": [published.__name__],
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def _tokenizer(card: ModelCard) -> PreTrainedTokenizerFast:
    about = card.preprocessing
    assert isinstance(about, TextPreprocessing)
    tokenizer = parsed(about.tokenizer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=tokenizer.id_to_token(about.padding),
        model_max_length=about.length,
        model_input_names=["input_ids", "attention_mask"],
    )
