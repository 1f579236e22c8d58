"""One export, in a process of its own: writing a model takes a framework, memory and time that the server keeps."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import structlog

from models.errors import CorruptArtifact, ExportFailed, NotInstalled, TandemError, Unavailable
from models.exports.exporting import Exported
from models.exports.formats import Format
from workers import processes
from workers.processes import Process

log = structlog.get_logger("app.exports")

# The check is done on the CPU, and whoever trains may want all of the GPU.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
ERRORS = {kind.code: kind for kind in (CorruptArtifact, ExportFailed, NotInstalled)}
STOPPING = "The server is stopping."
LAST_CHARACTERS = 2000


class ExportProcesses:
    """Starts exports, each with a time limit; `close` kills those that run and starts no more."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._running: set[Process] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, weights: Path, format: Format, output: Path) -> Exported:
        """Write a checked file to `output`. Waits for it.

        Raises CorruptArtifact, ExportFailed, NotInstalled, or Unavailable after the time limit.
        """
        process = self._start(weights, format, output)
        try:
            said, complaints = process.communicate(timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                f"The export took longer than {self._timeout_s:g} s and was stopped (TANDEM_EXPORT_TIMEOUT_S).",
                code="export_timeout",
            ) from None
        finally:
            self._end(process)
        if self._closed:
            raise Unavailable(STOPPING)
        return _outcome(process, said, complaints)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for process in self._running:
                processes.kill(process)

    def _start(self, weights: Path, format: Format, output: Path) -> Process:
        command = [sys.executable, "-m", "models.exports"]
        command += ["--weights", str(weights), "--format", format.name, "--output", str(output)]
        pipe = subprocess.PIPE
        with self._lock:
            if self._closed:
                raise Unavailable(STOPPING)
            process = processes.spawn(command, environment=ENVIRONMENT, stdout=pipe, stderr=pipe)
            self._running.add(process)
        return process

    def _end(self, process: Process) -> None:
        processes.kill(process)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        with self._lock:
            self._running.discard(process)


def _outcome(process: Process, said: bytes, complaints: bytes) -> Exported:
    try:
        answer = json.loads(said)
    except ValueError:
        words = processes.last_words(process.returncode)
        log.error("export_died", how=words, stderr=complaints.decode(errors="replace")[-LAST_CHARACTERS:])
        raise ExportFailed(f"The process that wrote the file {words}. The server's log has more.") from None
    return Exported(**answer) if "error" not in answer else _raise(answer["error"])


def _raise(error: dict[str, str]) -> Exported:
    kind: type[TandemError] = ERRORS.get(error["code"], ExportFailed)
    pointer = "/format" if kind is NotInstalled else None
    raise kind(error["detail"], pointer=pointer, code=error["code"])
