"""Texts per second of preparing a dataset for a job, and of a plain loop over `tokenizers`.

    python -m benchmarks.tokenization --texts 50000

Both use the tokenizer that was trained before the clock starts and end with padded ids. Ours reads the texts out of the
dataset's file, keeps the ids of large splits on disk and sorts the evaluation splits.
"""

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from tokenizers import Tokenizer

from models.data import dataset as dataset_file
from models.data.assembly import assemble
from models.data.dataset import Dataset, Split
from models.data.texts import Texts
from models.job import JobSpec
from models.preparation import prepared
from models.preprocessing import TextPreprocessing

LENGTH = 256
SYLLABLES = ("ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu")


def texts(count: int) -> list[str]:
    """Made-up words with the frequencies of a language, about 150 a text."""
    generator = np.random.default_rng(0)
    words = ["".join(SYLLABLES[int(digit)] for digit in str(number)) for number in range(30_000)]
    places = np.minimum(generator.zipf(1.3, count * 150) - 1, len(words) - 1)
    ends = np.cumsum(generator.poisson(150, count)).clip(1, len(places))
    return [" ".join(words[at] for at in part) or words[0] for part in np.split(places, ends[:-1])]


def job(tokenizer: str) -> JobSpec:
    model = {"architecture": "bilstm", "tokenizer": tokenizer, "length": LENGTH}
    body = {"framework": "torch", "dataset": "x", "model": model, "training": {"epochs": 1}}
    return JobSpec.model_validate(body, strict=False)


def by_tandem(source: Dataset, known: TextPreprocessing, tokenizer: str, folder: Path) -> float:
    """Seconds."""
    began = perf_counter()
    prepared(source, job(tokenizer), known, folder)
    return perf_counter() - began


def by_tokenizers(all_texts: list[str], text: str) -> float:
    """Seconds."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    began = perf_counter()
    np.array([found.ids for found in tokenizer.encode_batch(all_texts)], np.int32)
    return perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    made = texts(asked.texts)
    size = sum(map(len, made)) / 1e6
    source = assemble(
        "text-classification", Split(Texts.of(made), np.arange(len(made)) % 2), classes=["a", "b"]
    )
    for tokenizer in ("word", "bpe"):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            dataset_file.write(source, folder / "texts.safetensors")
            stored = dataset_file.read(folder / "texts.safetensors")
            known = prepared(stored, job(tokenizer), None, folder).preprocessing
            assert isinstance(known, TextPreprocessing)
            ours = min(by_tandem(stored, known, tokenizer, folder) for _ in range(asked.repeats))
            theirs = min(by_tokenizers(made, known.tokenizer) for _ in range(asked.repeats))
        print(
            f"{tokenizer:5} tandem {len(made) / ours:8.0f} texts/s ({size / ours:.1f} MB/s)   tokenizers"
            f" {len(made) / theirs:8.0f} texts/s ({size / theirs:.1f} MB/s)   ratio {theirs / ours:.2f}"
        )


if __name__ == "__main__":
    main()
