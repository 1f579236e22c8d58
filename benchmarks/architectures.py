"""Every architecture in both frameworks: Tandem's training loop and a bare one of the same network, as a table.

    python -m benchmarks.architectures --models resnet18 bilstm --repeats 3

Each line is a run of `benchmarks.training_loop` in a process of its own. The rates are the best of the repeats, in
samples per second; the ratio is that of the best. Target: at least 0.95 everywhere. `--markdown` prints the table as
docs/benchmarks.md has it.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.cases import CASES
from models.framework import FRAMEWORKS, Framework
from models.signature import ImageInput

TARGET = 0.95
RATES = re.compile(r"^ *(bare|tandem): .* samples/s +(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Measured:
    """The best rates of a network in a framework, samples per second."""

    model: str
    framework: Framework
    tandem: float
    bare: float

    @property
    def ratio(self) -> float:
        return self.tandem / self.bare


def main() -> None:
    options = _options()
    found = []
    with tempfile.TemporaryDirectory() as compiled:
        for one in measured(options.models, options.frameworks, options.repeats, options.steps, compiled):
            found.append(one)
            met = "met" if one.ratio >= TARGET else "missed"
            print(
                f"{one.model:<12} {one.framework:<5} {one.tandem:9.5g} samples/s, bare {one.bare:9.5g},"
                f" ratio {one.ratio:.2f}; target {TARGET}: {met}",
                flush=True,
            )
    if options.markdown:
        print("\n".join(["", *table(found)]))


def measured(
    models: Sequence[str], frameworks: Sequence[Framework], repeats: int, steps: int | None, compiled: str
) -> Iterator[Measured]:
    """One after another. `compiled`: a folder for what JAX compiles in every repeat anew."""
    for model in models:
        for framework in frameworks:
            command = [sys.executable, "-m", "benchmarks.training_loop", "--framework", framework]
            command += ["--model", model, "--repeats", str(repeats)]
            command += [] if steps is None else ["--steps", str(steps)]
            environment = {"JAX_COMPILATION_CACHE_DIR": compiled}
            shown = subprocess.run(
                command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
            )
            rates = {name: max(map(float, values.split())) for name, values in RATES.findall(shown.stdout)}
            yield Measured(model, framework, rates["tandem"], rates["bare"])


def table(found: Sequence[Measured]) -> Iterator[str]:
    """Lines of Markdown, a network each."""
    yield (
        "| network, batch | "
        + " | ".join(f"{framework}: Tandem, bare, ratio" for framework in FRAMEWORKS)
        + " |"
    )
    yield "|---" * (1 + len(FRAMEWORKS)) + "|"
    for model in dict.fromkeys(one.model for one in found):
        cells = [
            f"{_rounded(one.tandem)}, {_rounded(one.bare)}, {one.ratio:.2f}"
            for framework in FRAMEWORKS
            for one in found
            if (one.model, one.framework) == (model, framework)
        ]
        yield f"| {described(model)} | " + " | ".join(cells) + " |"


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def described(model: str) -> str:
    """A network for people: 'resnet18, 32x32, 32'."""
    case = CASES[model]
    input = case.input
    size = f"{input.height}x{input.width}" if isinstance(input, ImageInput) else f"{input.shape[0]} tokens"
    return f"{case.architecture} {size}, {case.batch}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", choices=CASES, default=list(CASES), metavar="MODEL", help="all"
    )
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, help="steps of each repeat; usually as many as take some seconds"
    )
    parser.add_argument("--markdown", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
