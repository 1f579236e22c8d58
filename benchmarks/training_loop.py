"""Tandem's training loop against a bare hand-written one in the same framework.

    python -m benchmarks.training_loop --framework torch --model cnn --steps 100 --repeats 5

Both train the same network on the same random data (`benchmarks.cases`), one after the other in one process, so that a
noisy machine hits both; glibc keeps memory for both as it does in trainers. Tandem's share is the whole of
`models.fit.fit` from the first report on: batch plan, metrics, reports. Where others use the machine too, the ratio of
the best repeats says more than that of medians.
"""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from statistics import median
from time import perf_counter

from benchmarks.cases import CASES, Case, dataset
from models import engine
from models.data.dataset import Dataset
from models.engine import Definition
from models.fit import fit
from models.framework import FRAMEWORKS, Framework
from models.initial import initial_weights
from models.reports import Directive, Progress, Report
from models.state import TrainingState
from models.training import TrainingSpec, resolve
from workers.trainer_environment import MEMORY


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


def tandem(framework: Framework, case: Case, data: Dataset) -> Callable[[int], float]:
    """A function that trains so many steps and returns its steps per second."""
    spec, signature = case.spec, case.signature
    definition = Definition(spec, signature, data.preprocessing.normalisation)
    module = engine.load(framework)
    module.warm_up("auto")
    start = initial_weights(spec, signature, 0)

    def rate(steps: int) -> float:
        training = TrainingSpec(
            max_steps=steps, batch_size=case.batch, optimizer=case.optimizer, evaluate_every=10**6
        )
        stopwatch = Stopwatch()
        resolved = resolve(spec, training, signature, case.rows)
        fit(module, definition, resolved, data, TrainingState(start), stopwatch)
        return stopwatch.steps_per_s

    return rate


def bare(framework: Framework, case: Case, data: Dataset) -> Callable[[int], float]:
    """The same for the hand-written loop."""
    train = import_module(f"benchmarks.bare.{framework}").loop(
        case, data.train.array, data.train.y, data.preprocessing.normalisation
    )

    def rate(steps: int) -> float:
        start = perf_counter()
        train(steps)
        return steps / (perf_counter() - start)

    return rate


def main() -> None:
    options = _options()
    if os.environ | MEMORY != os.environ:  # glibc reads it when a process starts
        module = [sys.executable, "-m", "benchmarks.training_loop"]
        os.execve(sys.executable, [*module, *sys.argv[1:]], os.environ | MEMORY)
    case = CASES[options.model]
    if options.batch:
        case = replace(case, batch=options.batch)
    steps = max(case.fewest, options.steps or case.steps)
    data = dataset(case)
    loops = {name: side(options.framework, case, data) for name, side in (("bare", bare), ("tandem", tandem))}
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for rate in loops.values():
        rate(max(case.fewest, steps // 10))
    for repeat in range(options.repeats):
        for name in sorted(loops, reverse=repeat % 2 == 1):
            rates[name].append(loops[name](steps) * case.batch)
    for name, values in rates.items():
        shown = "  ".join(f"{value:.{_digits(value)}f}" for value in values)
        print(f"{name:>7}: {median(values):10.{_digits(median(values))}f} samples/s   {shown}")
    print(f"  ratio of medians: {median(rates['tandem']) / median(rates['bare']):.3f}")
    print(f"  ratio of the best: {max(rates['tandem']) / max(rates['bare']):.3f}")


def _digits(rate: float) -> int:
    return 0 if rate >= 100 else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--framework", choices=FRAMEWORKS, required=True)
    parser.add_argument("--model", choices=CASES, default="cnn")
    parser.add_argument("--batch", type=int, help="samples in a batch, instead of the network's usual ones")
    parser.add_argument(
        "--steps", type=int, help="steps of each repeat; usually as many as take some seconds"
    )
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
