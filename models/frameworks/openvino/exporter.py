"""A process that exports graphs, and what has it export them.

torch traces by replacing what all its modules do when they are called: here a prediction of another thread would end in
the trace. And a server that answers from OpenVINO alone does without torch.
"""

import os
import pickle
import subprocess
import sys
import traceback
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from subprocess import PIPE, TimeoutExpired
from tempfile import TemporaryFile
from threading import Lock, Thread, Timer
from typing import NamedTuple

from models.engine import Definition
from models.errors import EngineUnavailable, NotSupported
from models.makers import makers
from models.weights import Weights

IDLE_S = 60.0
EXPORTED_WITHIN_S = 600.0
ENDED_WITHIN_S = 5.0
MAIN = """
import os
requests, answers = os.dup(0), os.dup(1)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
from models.frameworks.openvino.exporter import main
main(requests, answers)
"""
"""Whatever libraries read or print, requests and answers stay apart from it."""
DONE, LACKING = "", "lacking"
"""What the process answers; where it fails, in words why."""
STOPPING = "The server is stopping."


class Request(NamedTuple):
    """`makers` are the requester's: a process that is started later may find newer code."""

    definition: Definition
    weights: Weights
    path: Path
    makers: str


class Exporter:
    """Exports graphs, one after the other, in a process that is started for the first. It ends once none was wanted
    for `IDLE_S`, and never outlives this one: it ends when its input does. Used in any thread."""

    def __init__(self) -> None:
        self._turn = Lock()
        self._process: Process | None = None
        self._exports = 0
        self._stopped = False

    def export(self, definition: Definition, weights: Weights, path: Path) -> None:
        """Write the network's graph, see `graph_files`.

        Raises NotSupported where OpenVINO lacks one of its operations, and EngineUnavailable where the process fails.
        """
        with self._turn:
            answer = self._answer(Request(definition, dict(weights), path, makers()))
            self._exports += 1
            rest = Timer(IDLE_S, self._rest, (self._exports,))
            rest.daemon = True
            rest.start()
        if answer == LACKING:
            raise NotSupported(
                f"The engine 'openvino' cannot run {definition.spec.name!r}: it lacks one of its operations. Use"
                " another.",
                pointer="/engine",
            )
        if answer != DONE:
            raise EngineUnavailable(
                f"The process that exports the graph of {definition.spec.name!r} failed: {answer}"
            )

    def stop(self) -> None:
        """For good: what is being exported is given up."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()

    def _rest(self, exports: int) -> None:
        """End the process unless something was exported since."""
        with self._turn:
            if exports == self._exports:
                self._end()

    def _answer(self, request: Request) -> str:
        was_there = self._process is not None
        try:
            if self._process is None and not self._stopped:
                self._process = Process()
            if (process := self._process) is not None and not self._stopped:
                return process.answer(request)
        except Exception as error:  # noqa: BLE001 - what it would answer next is not known
            words = self._end() or str(error)
            if self._stopped:
                return STOPPING
            if was_there and isinstance(error, OSError | EOFError):  # it may have been killed while it rested
                return self._answer(request)
            return words
        except BaseException:
            self._end()
            raise
        self._end()
        return STOPPING

    def _end(self) -> str:
        """The process's last words."""
        process, self._process = self._process, None
        return "" if process is None else process.end()


class Process:
    """The process, from this end: it answers one request after the other."""

    def __init__(self) -> None:
        """Raises OSError."""
        with ExitStack() as opened:
            self._words = opened.enter_context(TemporaryFile())
            command = [sys.executable, "-c", MAIN]
            self._popen = subprocess.Popen(
                command, stdin=PIPE, stdout=PIPE, stderr=self._words, start_new_session=True
            )
            opened.pop_all()
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._requests, self._answers = self._popen.stdin, self._popen.stdout
        self._said = 0

    def answer(self, request: Request) -> str:
        """Raises OSError, EOFError or UnpicklingError when it has ended."""
        self._said = os.fstat(self._words.fileno()).st_size
        patience = Timer(EXPORTED_WITHIN_S, self.kill)
        patience.daemon = True
        patience.start()
        try:
            pickle.dump(request, self._requests, protocol=5)
            self._requests.flush()
            answer: str = pickle.load(self._answers)  # noqa: S301 - from the process that this one started
        finally:
            patience.cancel()
        return answer

    def kill(self) -> None:
        self._popen.kill()

    def end(self) -> str:
        """How it ended, and its last words since the last request."""
        with self._words as words:
            with suppress(OSError):
                self._requests.close()
            self._answers.close()
            try:
                status = self._popen.wait(ENDED_WITHIN_S)
            except TimeoutExpired:
                self.kill()
                status = self._popen.wait()
            words.seek(self._said)
            lines = words.read().decode(errors="replace").strip().splitlines()
        return ": ".join([f"status {status}", *lines[-1:]])


def main(requests: int, answers: int) -> None:
    """Answer the requests that come over the one descriptor over the other, until it is closed."""
    waiting: SimpleQueue[Request] = SimpleQueue()
    Thread(target=_receive, args=(requests, waiting), daemon=True).start()
    with os.fdopen(answers, "wb") as out:
        while True:
            pickle.dump(_outcome(waiting.get()), out)
            out.flush()


def _receive(requests: int, waiting: SimpleQueue[Request]) -> None:
    """In a thread, so that the process ends with its input whatever it is at."""
    try:
        with os.fdopen(requests, "rb") as file:
            while True:
                waiting.put(pickle.load(file))  # noqa: S301 - from the process that started this one
    except EOFError:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - a thread's own would leave the process waiting
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _outcome(request: Request) -> str:
    if request.makers != makers():
        return "Tandem or a package of its was updated since this server started. Start it again."
    try:
        # Imported here: it takes seconds, in which the input may end.
        from models.frameworks.openvino.exporting import MissingOperation, export

        export(request.definition, request.weights, request.path)
    except MissingOperation:
        return LACKING
    except Exception as error:  # noqa: BLE001 - whatever it is, who asked is told
        traceback.print_exc()
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return DONE
