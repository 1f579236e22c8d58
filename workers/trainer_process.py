"""A supervisor's hold on one trainer process: the lines to it and from it."""

import os
import select
import signal
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from math import inf
from typing import IO, cast

from workers import messages, processes

LONGEST_LINE = 1 << 20
"""Bytes; a longer line of the log is cut into pieces."""


class Lines:
    """Complete lines from a pipe, without ever waiting."""

    def __init__(self, descriptor: int, *, longest: float) -> None:
        """Lines of more than `longest` bytes are cut into pieces."""
        self.descriptor = descriptor
        self.ended = False
        self.received = 0
        """Bytes so far."""
        self._longest = longest
        self._rest = b""
        os.set_blocking(descriptor, False)

    def read(self) -> list[bytes]:
        """The lines that have arrived; at the pipe's end also what came after the last newline."""
        while not self.ended:
            try:
                piece = os.read(self.descriptor, 1 << 16)
            except BlockingIOError:
                break
            self.received += len(piece)
            self._rest += piece
            self.ended = not piece
            if len(self._rest) > self._longest:
                break
        return self._cut()

    def _cut(self) -> list[bytes]:
        *lines, self._rest = self._rest.split(b"\n")
        if self._rest and (self.ended or len(self._rest) > self._longest):
            lines.append(self._rest)
            self._rest = b""
        return lines

    def close(self) -> None:
        self.ended = True
        os.close(self.descriptor)


class TrainerProcess:
    """A started trainer. Use close() when done with it: it kills what is left and frees the pipes."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """`command` gets `--messages-fd N` appended. Raises OSError if it cannot be started."""
        with ExitStack() as ours, ExitStack() as its:
            reports, reports_end = _pipe(ours, its)
            log, log_end = _pipe(ours, its)
            self.process = processes.spawn(
                [*command, "--messages-fd", str(reports_end)],
                environment=environment,
                stdin=-1,
                stdout=cast(IO[bytes], log_end),
                stderr=cast(IO[bytes], log_end),
                keep=(reports_end,),
            )
            ours.pop_all()  # it runs, and we read from it until `close`
        # A result holds the names of all columns and categories: of a wide table some megabytes.
        self.reports, self.log = Lines(reports, longest=inf), Lines(log, longest=LONGEST_LINE)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def received(self) -> int:
        """Bytes that have come from it so far."""
        return self.reports.received + self.log.received

    def tell(self, command: messages.Command) -> None:
        """Send a command; to a dead trainer it goes nowhere, and its death shows elsewhere."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError, ValueError):  # ValueError: closed meanwhile, by another thread
            self.process.stdin.write(command.line())
            self.process.stdin.flush()

    def dump_stacks(self, patience_s: float) -> bool:
        """Have it write into its log where each thread stands, even if it was stopped (see `trainer.serve`). Returns
        whether it wrote something; what it wrote is still to be read."""
        for number in (signal.SIGUSR2, signal.SIGCONT):
            self.process.send_signal(number)
        return bool(select.select([self.log.descriptor], [], [], patience_s)[0]) and self.alive

    def kill(self) -> None:
        processes.kill(self.process)

    def close(self) -> None:
        self.kill()
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.reports.close()
        self.log.close()


def _pipe(ours: ExitStack, its: ExitStack) -> tuple[int, int]:
    """Where to read and where to write; the stacks close either end."""
    reading, writing = os.pipe()
    ours.callback(os.close, reading)
    its.callback(os.close, writing)
    return reading, writing
