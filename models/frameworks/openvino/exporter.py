"""A process that exports graphs, and what has it export them.

torch traces by replacing what all its modules do when they are called: here a prediction of another thread would end in
the trace. And its compiler takes ten times as long to import as to export a network.
"""

import os
import pickle
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from subprocess import PIPE
from tempfile import TemporaryFile
from threading import Lock, Thread, Timer

from models.engine import Definition
from models.errors import NotSupported, Unavailable
from models.weights import Weights

IDLE_S = 60.0
MAIN = "from models.frameworks.openvino.exporter import main; main()"
DONE, LACKING = "", "lacking"
"""What the process answers; where it fails, in words why."""
Request = tuple[Definition, Weights, Path]


class Exporter:
    """Exports graphs, one after the other, in a process that is started for the first. It ends once none was wanted
    for `IDLE_S`, and never outlives this one: it ends when its input does. Used in any thread."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._process: Process | None = None
        self._rest: Timer | None = None

    def export(self, definition: Definition, weights: Weights, path: Path) -> None:
        """Write the network's graph, see `graph_files`.

        Raises NotSupported where OpenVINO lacks one of its operations, and Unavailable where the process fails.
        """
        with self._turn:
            if self._rest is not None:
                self._rest.cancel()
            answer = self._answer((definition, dict(weights), path))
            self._rest = Timer(IDLE_S, self.close)
            self._rest.daemon = True
            self._rest.start()
        if answer == LACKING:
            raise NotSupported(
                f"The engine 'openvino' cannot run {definition.spec.name!r}: it lacks one of its operations. Use"
                " another.",
                pointer="/engine",
            )
        if answer != DONE:
            raise Unavailable(
                f"The process that exports the graph of {definition.spec.name!r} failed: {answer}"
            )

    def close(self) -> None:
        """End the process; the next export starts another."""
        with self._turn:
            self._end()

    def _answer(self, request: Request) -> str:
        try:
            self._process = self._process or Process()
            return self._process.answer(request)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            return self._end() or str(error)

    def _end(self) -> str:
        process, self._process = self._process, None
        return "" if process is None else process.end()


class Process:
    """Raises OSError."""

    def __init__(self) -> None:
        with ExitStack() as opened:
            self._words = opened.enter_context(TemporaryFile())
            command = [sys.executable, "-c", MAIN]
            self._popen = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=self._words)
            opened.pop_all()
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests, self._answers = self._popen.stdin, self._popen.stdout

    def answer(self, request: Request) -> str:
        """Raises OSError, EOFError or UnpicklingError when it has ended."""
        pickle.dump(request, self._requests, protocol=5)
        self._requests.flush()
        answer: str = pickle.load(self._answers)  # noqa: S301 - from the process that this one started
        return answer

    def end(self) -> str:
        """Its last words."""
        with self._words as words:
            with suppress(OSError):
                self._requests.close()
            self._answers.close()
            status = self._popen.wait()
            words.seek(0)
            lines = words.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"status {status}"


def main() -> None:
    """Export what comes over the standard input, and answer over the standard output."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # where whatever else is printed goes
    requests: SimpleQueue[Request] = SimpleQueue()
    Thread(target=_receive, args=(requests,), daemon=True).start()
    while True:
        pickle.dump(_outcome(*requests.get()), answers)
        answers.flush()


def _receive(requests: SimpleQueue[Request]) -> None:
    try:
        while True:
            requests.put(pickle.load(sys.stdin.buffer))  # noqa: S301 - from the process that started this one
    finally:
        os._exit(0)


def _outcome(definition: Definition, weights: Weights, path: Path) -> str:
    try:
        # Imported here: it takes seconds, in which the input may end.
        from models.frameworks.openvino.exporting import Lacking, export

        export(definition, weights, path)
    except Lacking:
        return LACKING
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told
        return f"{type(error).__name__}: {error}"
    return DONE
