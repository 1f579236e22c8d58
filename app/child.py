"""One of several processes that serve a port: `python -m app.child --door 5 --place 1 --folder /run/x --pulse 6`.

Its settings come from the environment; it says on the pipe `--pulse` that it answers, and goes on saying so.
"""

import argparse
import faulthandler
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from app.place import Place
from app.pulse import beat
from app.server import serve_here
from workers import logging
from workers.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--door", type=int, required=True)
    parser.add_argument("--place", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pulse", type=int, required=True)
    options = parser.parse_args(arguments)
    faulthandler.register(signal.SIGUSR2)  # for Keeper.have_stacks_logged
    settings = Settings()
    logging.configure(settings)
    with socket.socket(fileno=options.door) as door:
        place = Place(options.place, options.folder)
        alive = partial(beat, options.pulse)
        serve_here(settings, door, place, ready=alive, alive=alive)


if __name__ == "__main__":
    main()
