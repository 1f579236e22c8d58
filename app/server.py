"""The API's socket, and the process or processes behind it."""

import contextlib
import gc
import ipaddress
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from app.place import Place
from app.pulse import Pulse
from workers import processes
from workers.gpus import visible_gpus
from workers.keeper import Keeper
from workers.settings import Settings

LOOK_EVERY_S = 0.25
LONGEST_WAIT_S = 1.0
LONGEST_FOLDER = 90
STARTING_GETS_S = 300.0
"""The database may have to be brought to its schema."""
SAYING_GETS_S = 1.0
"""For one that hangs, to log where."""
STOPPING_GETS_S = 8.0
"""For the requests that are open, the streams among them, and what is being loaded."""


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """A socket for each process on the settings' address, taken before anything else starts; from now on SIGTERM is a
    Ctrl-C.

    Raises ClickException when the address is taken or open to strangers without a key, or when there are fewer GPUs
    than processes that want one.
    """
    refuse_open_door(settings)
    refuse_too_many(settings)
    for one in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: what a script starts in the background ignores it
        signal.signal(one, signal.default_int_handler)
    try:
        doors = _doors(settings)
    except OSError as problem:
        where = f"{settings.host}:{settings.port}"
        raise click.ClickException(
            f"Cannot listen on {where}: {problem.strerror}. Choose another --port."
        ) from problem
    with contextlib.ExitStack() as held:
        for door in doors:
            held.enter_context(door)
        yield doors


def serve(settings: Settings, doors: Sequence[socket.socket]) -> None:
    """Serve the API on these sockets, by a process for each, until SIGINT or SIGTERM.

    Exits with status 1 when it could not start; why stands in the log.
    """
    if len(doors) == 1:
        serve_here(settings, doors[0], Place(), lambda: _say_ready(doors))
        return
    with (
        contextlib.suppress(KeyboardInterrupt),
        _folder() as folder,
        _Processes(settings, doors, folder) as all_,
    ):
        all_.run()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Where the processes' sockets are. Raises ClickException where their names would be too long for the system."""
    with tempfile.TemporaryDirectory(prefix="tandem-") as name:
        if len(name) > LONGEST_FOLDER:
            raise click.ClickException(
                f"The temporary folder {name} has too long a name for sockets in it. Set TMPDIR to a shorter one."
            )
        yield Path(name)


def serve_here(
    settings: Settings,
    door: socket.socket,
    place: Place,
    ready: Callable[[], object],
    alive: Callable[[], object] | None = None,
) -> None:
    """Serve the API on this socket by this process; `ready` is called once it answers, `alive` about every second from
    then on. Ends as `serve` does."""
    # Hundreds of modules make objects that stay: looking for garbage among them takes a good part of the start.
    gc.disable()
    from app import process

    process.serve(settings, door, place, ready, alive)


def refuse_open_door(settings: Settings) -> None:
    """Raises ClickException when strangers could reach an API that asks for no key."""
    if settings.api_key is None and not settings.allow_unauthenticated and not _is_loopback(settings.host):
        raise click.ClickException(
            f"{settings.host} can be reached from other machines, and no API key is set. Set TANDEM_API_KEY, listen on"
            " 127.0.0.1, or, if something else keeps strangers out, set TANDEM_ALLOW_UNAUTHENTICATED=true."
        )


def refuse_too_many(settings: Settings) -> None:
    """Raises ClickException when processes would have to share a GPU."""
    if settings.processes > 1 and (gpus := _gpus(settings)) is not None and settings.processes > len(gpus):
        raise click.ClickException(
            f"Each process serves from a GPU of its own: there are {len(gpus)} for {settings.processes}. Start"
            f" {max(1, len(gpus))} with --processes or TANDEM_PROCESSES, or serve from the CPU."
        )


def _gpus(settings: Settings) -> list[str] | None:
    """Those that the processes serve from; None where they do from the CPU."""
    if settings.serving_device == "cpu":
        return None
    found = visible_gpus()
    return found if found or settings.serving_device == "cuda" else None


def _doors(settings: Settings) -> list[socket.socket]:
    """Sockets among which the kernel shares the connections. We hold them all, so that those of a process that has died
    wait for its successor."""
    host = settings.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without sharing, it fails where another server has the address, even one that would share it.
    alone = socket.create_server((host, settings.port), family=family, backlog=2048)
    if settings.processes == 1:
        return [alone]
    port = alone.getsockname()[1]
    alone.close()
    return [_shared_door((host, port), family) for _ in range(settings.processes)]


def _shared_door(address: tuple[str, int], family: int) -> socket.socket:
    return socket.create_server(address, family=family, backlog=2048, reuse_port=True)


class _Slot:
    """A place among the processes, and the socket behind which it is."""

    def __init__(self, number: int, door: socket.socket, folder: Path, pulse: int) -> None:
        self._number, self._door, self._folder, self._pulse = number, door, folder, pulse
        self._address, self._family = door.getsockname()[:2], door.family

    def spawn(self, *, environment: Mapping[str, str]) -> processes.Process:
        if self._door.fileno() < 0:
            self._door = _shared_door(self._address, self._family)
        door = self._door.fileno()
        given = {"door": door, "place": self._number, "folder": self._folder, "pulse": self._pulse}
        options = (text for name, value in given.items() for text in (f"--{name}", str(value)))
        command = [sys.executable, "-m", "app.child", *options]
        return processes.spawn(command, environment=environment, keep=(door, self._pulse))

    def pause(self, seconds: float) -> None:
        """Who connects during a long one gets to another process."""
        if seconds > LONGEST_WAIT_S:
            self.close()

    def close(self) -> None:
        self._door.close()


class _Processes:
    """The processes of the API, each kept running."""

    def __init__(self, settings: Settings, doors: Sequence[socket.socket], folder: Path) -> None:
        self._doors = doors
        self._hung_after_s = settings.hung_after_s
        self._pulse = Pulse()
        self._environments = [environment_of(settings, number) for number in range(len(doors))]
        self._slots = [
            _Slot(number, door, folder, self._pulse.descriptor) for number, door in enumerate(doors)
        ]
        self._keepers = [
            Keeper(f"api {number}", slot.spawn, slot.pause) for number, slot in enumerate(self._slots)
        ]

    def run(self) -> None:
        """Until it is interrupted. Exits with status 1 when one of them ends before it is ready the first time."""
        self._await_ready()
        _say_ready(self._doors)
        while True:
            time.sleep(LOOK_EVERY_S)
            self._pulse.look()
            for keeper, environment in zip(self._keepers, self._environments, strict=True):
                self._end_if_hung(keeper)
                keeper.revive(environment)
            self._pulse.watch(self._pids())

    def _await_ready(self) -> None:
        self._pulse.watch(pids := self._pids())
        while not all(map(self._pulse.alive, pids)):
            self._pulse.take(LOOK_EVERY_S)
            if len(self._pids()) < len(self._keepers):
                sys.exit(1)

    def _end_if_hung(self, keeper: Keeper) -> None:
        if (pid := keeper.pid) is None:
            return
        silent_s = LOOK_EVERY_S * self._pulse.missed(pid)
        limit_s = self._hung_after_s if self._pulse.alive(pid) else max(self._hung_after_s, STARTING_GETS_S)
        if silent_s >= limit_s + SAYING_GETS_S:
            keeper.kill_hung(silent_s)
        elif silent_s >= limit_s:
            keeper.have_stacks_logged()

    def _pids(self) -> list[int]:
        return [keeper.pid for keeper in self._keepers if keeper.pid is not None]

    def __enter__(self) -> "_Processes":
        for keeper, environment in zip(self._keepers, self._environments, strict=True):
            keeper.start(environment)
        return self

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + STOPPING_GETS_S
        for keeper in self._keepers:
            keeper.ask_to_end()
        for keeper in self._keepers:
            keeper.await_end(deadline)
        for slot in self._slots:
            slot.close()
        self._pulse.close()


def environment_of(settings: Settings, number: int) -> dict[str, str]:
    """The settings, and the GPU of this process."""
    found = settings.environment()
    if (gpus := _gpus(settings)) is not None:
        found["CUDA_VISIBLE_DEVICES"] = gpus[number]
    return found


def _say_ready(doors: Sequence[socket.socket]) -> None:
    many = f" in {len(doors)} processes" if len(doors) > 1 else ""
    click.echo(f"Tandem is ready on {address(doors[0])}{many} (its requests: /docs). Ctrl-C stops it.")


def address(door: socket.socket) -> str:
    """The URL that reaches this socket."""
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
