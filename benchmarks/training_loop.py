"""Tandem's training loop against a bare hand-written one in the same framework.

    python -m benchmarks.training_loop --framework torch --model cnn --batch 32 --steps 100 --repeats 5

Both train the same network on the same 60,000 images of 28x28 pixels, one after the other in one process, so that
a noisy machine hits both. Tandem's share is the whole of `models.fit.fit` from the first report on: batch plan,
metrics, reports. Where others use the machine too, the ratio of the best repeats says more than that of medians.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from statistics import median
from time import perf_counter

import numpy as np

from models import engine
from models.catalog import architectures
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.engine import Definition
from models.fit import fit
from models.framework import FRAMEWORKS, Framework
from models.initial import initial_weights
from models.preprocessing import ImagePreprocessing
from models.reports import Directive, Progress, Report
from models.signature import ImageInput
from models.state import TrainingState
from models.training import AdamW, TrainingSpec, resolve

ROWS = 60_000
CLASSES = 10
FEWEST_STEPS = 40  # more than JAX compiles as one: the clock runs from the first piece's end


class Stopwatch:
    """An observer that notes when the first steps and the last were done."""

    def __init__(self) -> None:
        self.first: tuple[float, Progress] | None = None
        self.last: tuple[float, Progress] | None = None

    def report(self, event: Report) -> None:
        if isinstance(event, Progress):
            self.last = (perf_counter(), event)
            self.first = self.first or self.last

    def directive(self) -> Directive:
        return "continue"

    def save(self, state: TrainingState) -> None:
        """Nothing: the last checkpoint comes after the last step."""

    @property
    def steps_per_s(self) -> float:
        assert self.first
        assert self.last
        (start, before), (end, after) = self.first, self.last
        return (after.step - before.step) / (end - start - (after.compile_s - before.compile_s))


def dataset() -> Dataset:
    """Random images: the speed of training does not depend on what they show."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (ROWS, 28, 28, 1), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, ROWS)
    held_out = Split(images[:256], labels[:256])
    return Dataset(
        DatasetDescription(
            task="image-classification",
            input=ImageInput(height=28, width=28, channels=1),
            classes=tuple(map(str, range(CLASSES))),
            splits=Splits(train=ROWS, validation=256, test=256),
        ),
        ImagePreprocessing(height=28, width=28, channels=1, mean=(0.5,), std=(0.29,)),
        Split(images, labels),
        held_out,
        held_out,
    )


def tandem(framework: Framework, model: str, data: Dataset, batch: int) -> Callable[[int], float]:
    """A function that trains so many steps and returns its steps per second."""
    spec = architectures()[model]()
    signature = data.description.signature
    definition = Definition(spec, signature, data.preprocessing.normalisation)
    module = engine.load(framework)
    module.warm_up("auto")

    def rate(steps: int) -> float:
        training = TrainingSpec(max_steps=steps, batch_size=batch, optimizer=AdamW(), evaluate_every=10**6)
        stopwatch = Stopwatch()
        fit(
            module,
            definition,
            resolve(spec, training, signature, ROWS),
            data,
            TrainingState(initial_weights(spec, signature, 0)),
            stopwatch,
        )
        return stopwatch.steps_per_s

    return rate


def bare(framework: Framework, model: str, data: Dataset, batch: int) -> Callable[[int], float]:
    """The same for the hand-written loop."""
    normalisation = data.preprocessing.normalisation
    train = import_module(f"benchmarks.bare.{framework}").loop(
        model,
        data.train.x,
        data.train.y,
        batch,
        float(normalisation.mean[0]),
        float(normalisation.inverse_std[0]),
    )

    def rate(steps: int) -> float:
        start = perf_counter()
        train(steps)
        return steps / (perf_counter() - start)

    return rate


def main() -> None:
    options = _options()
    steps = max(FEWEST_STEPS, options.steps)
    data = dataset()
    arguments = (options.framework, options.model, data, options.batch)
    loops = {"bare": bare(*arguments), "tandem": tandem(*arguments)}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for rate in loops.values():
        rate(max(FEWEST_STEPS, options.steps // 10))
    for repeat in range(options.repeats):
        for name in sorted(loops, reverse=repeat % 2 == 1):
            rates[name].append(loops[name](steps) * options.batch)
    for name, values in rates.items():
        print(
            f"{name:>7}: {median(values):10.0f} samples/s   {'  '.join(f'{value:.0f}' for value in values)}"
        )
    print(f"  ratio of medians: {median(rates['tandem']) / median(rates['bare']):.3f}")
    print(f"  ratio of the best: {max(rates['tandem']) / max(rates['bare']):.3f}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--framework", choices=FRAMEWORKS, required=True)
    parser.add_argument("--model", choices=("mlp", "cnn"), default="cnn")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200, help=f"at least {FEWEST_STEPS}")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
