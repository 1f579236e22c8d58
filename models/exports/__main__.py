"""One export in a process of its own: `python -m models.exports --weights FILE --format NAME --output FILE`.

Prints one line of JSON: what `Exported` says, or `{"error": {"code": ..., "detail": ...}}`, and ends with status 0
either way. What the frameworks print goes to standard error.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.errors import TandemError
from models.exports import formats
from models.exports.exporting import export


def main() -> None:
    options = _options()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # compilers print from C++ too
    with answer:
        json.dump(_answer(options), answer)


def _answer(options: argparse.Namespace) -> dict[str, Any]:
    try:
        return asdict(export(options.weights, formats.FORMATS[options.format], options.output))
    except TandemError as error:
        return {"error": {"code": error.specific_code, "detail": error.detail}}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.exports", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--format", choices=formats.FORMATS, required=True)
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
