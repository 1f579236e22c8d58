"""Test accuracy on real data with default options: jobs in, raw texts and pictures through `POST /predict`.

    python -m benchmarks.accuracy reviews --file PATH
    python -m benchmarks.accuracy fashion --datasets FOLDER
    python -m benchmarks.accuracy resnet18 --datasets FOLDER

Starts a server of its own and trains in one framework after the other, each on all cores. No job sees the rows that are
scored.

`reviews`: `bilstm` against TF-IDF of words and pairs of words with logistic regression. PATH is a `.jsonl` file with a
text and a label on each line. For each seed its lines are shuffled, so that other rows become the test split, and the
job begins with other weights; the logistic regression is fitted on the rows of the other two splits, once with
scikit-learn's defaults and once with less regularisation, C=10, which suits texts better. Only one in fifty of these
rows validates, since nothing is chosen by it: both sides learn from nearly the same. Target: on the mean of the seeds
at most 2 points below, in at most 10 epochs.

`fashion`: `cnn` on Fashion-MNIST's 60,000 pictures, scored on its 10,000 test pictures. FOLDER has the publisher's
files in a folder `fashion-mnist`. Target: 92 % within 5 epochs.

`resnet18`: `resnet18` with the stem for small pictures on 10,000 of these, scored on 1,000 of the test pictures.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from app.client import Tandem
from app.demo import server
from models.data.builtin import BUILTIN
from models.data.dataset import Dataset, Split
from models.data.uploads import UploadOptions, ingest
from models.framework import FRAMEWORKS, Framework

BASES = {"tf-idf": 1.0, "tf-idf C=10": 10.0}
"""Inverse strengths of the regularisation; the first is scikit-learn's default."""
POINTS_BELOW = 2.0
VALIDATION_FRACTION = 0.02
"""Of the rows that `bilstm` may learn from."""
LEAST_FASHION_ACCURACY = 0.92
SUBSET, SUBSET_TESTS = 10_000, 1_000
REQUEST = 500
"""Inputs of one `POST /predict`."""


@dataclass(frozen=True)
class Scored:
    """What one trained model got right. `seconds`: from `POST /jobs` to the job's end."""

    accuracy: float
    tests: int
    epochs: int
    seconds: float

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.4f} on {self.tests} test rows, {self.epochs} epochs, {self.seconds:.0f} s"


@dataclass(frozen=True)
class Rows:
    """Inputs as `POST /predict` takes them, and the right labels."""

    inputs: Sequence[object]
    labels: Sequence[str]


def main() -> None:
    options = _options()
    # Two workers share the cores by default, but here only one of them has a job at a time.
    os.environ.setdefault("TANDEM_THREADS", str(os.cpu_count()))
    options.run(options)


def reviews(options: argparse.Namespace) -> None:
    lines = [line for line in options.file.read_text(encoding="utf-8").splitlines() if line.strip()]
    found = [_compare_on_reviews(lines, seed, options) for seed in options.seeds]
    means = {name: fmean(accuracies[name] for accuracies in found) for name in found[0]}
    print(f"mean of {len(found)} seed(s): {_bases(means)}")
    for name in options.frameworks:
        points = _points(means, name)
        verdicts = " and ".join(_verdict(value >= -POINTS_BELOW) for value in points)
        print(f"  {name:<6} {means[name]:.4f}, {_shown(points)} points: {verdicts}")


def _compare_on_reviews(lines: Sequence[str], seed: int, options: argparse.Namespace) -> dict[str, float]:
    """The accuracy of each side on the test rows that this seed gives."""
    shuffled = [lines[row] for row in np.random.default_rng(seed).permutation(len(lines))]
    with stack() as (tandem, folder):
        file = folder / "reviews.jsonl"
        file.write_text("\n".join(shuffled), encoding="utf-8")
        given: dict[str, Any] = {
            "task": "text-classification",
            "text": options.text,
            "target": options.label,
            "validation_fraction": VALIDATION_FRACTION,
        }
        tandem.upload_dataset(file, name="reviews", **given)
        # The server divides equal files equally.
        dataset = ingest(file, file.name, UploadOptions(**given))
        tests = _named(dataset, dataset.test)
        known = _named(dataset, dataset.train, dataset.validation)
        found = {name: _bag_of_words(known, tests, strength) for name, strength in BASES.items()}
        print(f"seed {seed}: {_bases(found)} on {len(tests.labels)} test rows", flush=True)
        spec = {"dataset": "reviews", "model": {"architecture": "bilstm"}}
        for framework in options.frameworks:
            scored = score(tandem, framework, spec, options.epochs, tests, seed=seed)
            found[framework] = scored.accuracy
            print(f"  {framework:<6} {scored}, {_shown(_points(found, framework))} points", flush=True)
    return found


def _bases(accuracies: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {accuracies[name]:.4f}" for name in BASES)


def _points(accuracies: Mapping[str, float], name: str) -> list[float]:
    """How far above each base."""
    return [100 * (accuracies[name] - accuracies[base]) for base in BASES]


def _shown(points: Sequence[float]) -> str:
    return " and ".join(f"{value:+.1f}" for value in points)


def _bag_of_words(known: Rows, tests: Rows, strength: float) -> float:
    """The accuracy of TF-IDF with logistic regression."""
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(C=strength, max_iter=1000))
    return float(model.fit(known.inputs, known.labels).score(tests.inputs, tests.labels))


def _named(dataset: Dataset, *splits: Split) -> Rows:
    """The texts of these splits with the names of their classes."""
    classes = dataset.description.classes
    assert classes is not None
    texts = [text for split in splits for text in split.texts]
    return Rows(texts, [classes[index] for split in splits for index in split.y])


def fashion(options: argparse.Namespace) -> None:
    _, tests = _fashion_mnist(options.datasets)
    spec = {"dataset": "fashion-mnist", "model": {"architecture": "cnn"}}
    with stack(options.datasets) as (tandem, _):
        for framework in options.frameworks:
            scored = score(tandem, framework, spec, options.epochs, tests)
            verdict = _verdict(scored.accuracy >= LEAST_FASHION_ACCURACY)
            print(f"cnn {framework:<6} {scored}: {verdict}", flush=True)


def resnet18(options: argparse.Namespace) -> None:
    train, tests = _fashion_mnist(options.datasets)
    rows = np.random.default_rng(0).choice(len(train), SUBSET, replace=False)
    some = Rows(tests.inputs[:SUBSET_TESTS], tests.labels[:SUBSET_TESTS])
    classes = np.array(BUILTIN["fashion-mnist"].description.classes)
    spec = {"dataset": "clothes", "model": {"architecture": "resnet18", "stem": "cifar"}}
    with stack() as (tandem, folder):
        file = folder / "clothes.npz"
        np.savez(file, x=train.array[rows], y=classes[train.y[rows]])
        tandem.upload_dataset(file, name="clothes", task="image-classification")
        for framework in options.frameworks:
            scored = score(tandem, framework, spec, options.epochs, some)
            print(f"resnet18 {framework:<6} {scored}", flush=True)


@contextmanager
def stack(datasets: Path | None = None) -> Iterator[tuple[Tandem, Path]]:
    """A server of its own, and a folder that goes with it. `datasets` has the files of built-in sets."""
    if datasets is not None:
        os.environ["TANDEM_DATASETS_DIR"] = str(datasets)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with server(folder / "data", Console(quiet=True)) as url, Tandem(url) as tandem:
            yield tandem, folder


def score(
    tandem: Tandem,
    framework: Framework,
    spec: Mapping[str, Any],
    epochs: int,
    held_out: Rows,
    *,
    seed: int = 0,
) -> Scored:
    """Train with default options, then predict the held-out inputs."""
    began = time.perf_counter()
    body = {**spec, "framework": framework, "training": {"epochs": epochs, "seed": seed}}
    job = tandem.wait(tandem.create_job(body).id)
    seconds = time.perf_counter() - began
    if job.result is None:
        raise SystemExit(f"job {job.id} did not succeed: {job.error}")
    model = f"{job.result.model}@{job.result.version}"
    answers: list[str | None] = []
    for start in range(0, len(held_out.inputs), REQUEST):
        found = tandem.predict(model, held_out.inputs[start : start + REQUEST])
        answers += [prediction.label for prediction in found.predictions]
    right = [answer == label for answer, label in zip(answers, held_out.labels, strict=True)]
    return Scored(fmean(right), len(right), job.progress.epoch or 0, seconds)


def _fashion_mnist(datasets: Path) -> tuple[Split, Rows]:
    """The training pictures as arrays, the test pictures as PNG files."""
    found = BUILTIN["fashion-mnist"].load(datasets)
    classes = found.description.classes
    assert classes is not None
    pictures = [_png(pixels) for pixels in found.test.array]
    return found.train, Rows(pictures, [classes[index] for index in found.test.y])


def _png(pixels: np.ndarray) -> bytes:
    """One grey image, uint8 [H, W, 1], as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, format="PNG")
    return file.getvalue()


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    for run, epochs in ((reviews, 8), (fashion, 5), (resnet18, 2)):
        kind = kinds.add_parser(run.__name__)
        kind.set_defaults(run=run)
        kind.add_argument("--epochs", type=int, default=epochs)
        kind.add_argument("--frameworks", choices=FRAMEWORKS, nargs="+", default=FRAMEWORKS)
        if run is reviews:
            kind.add_argument("--file", type=Path, required=True)
            kind.add_argument("--text", default="text", help="the field that holds the text")
            kind.add_argument("--label", default="label", help="the field that holds the label")
            kind.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        else:
            kind.add_argument("--datasets", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
