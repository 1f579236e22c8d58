"""A worker: the process that takes the jobs of one framework. It imports no framework itself.

`python -m workers.service --framework torch`, or `tandem worker --framework torch`.
"""

import argparse
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, cast

import structlog
from celery import signals
from celery.exceptions import SecurityWarning

from models.framework import FRAMEWORKS, Framework
from workers import broker, fleet, logging, tasks, trainer_environment
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.identifiers import new_id
from workers.presence import Presence
from workers.settings import Settings
from workers.spares import Spares
from workers.supervisor import Supervisor

log = structlog.get_logger(__name__)


def run(settings: Settings, framework: Framework, *, trainer: Sequence[str] | None = None) -> None:
    """Take jobs until SIGTERM or SIGINT: running ones are given back at a checkpoint. A second signal hurries.

    The database's tables are up to date. A broker that does not answer is waited for. `trainer` is the command
    of another trainer than ours.
    """
    logging.configure(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)  # until Celery's worker puts its own in their place
    worker = new_id(fleet.PREFIX)
    db, store = Database(settings.database_url), ArtifactStore(settings.artifacts_dir)
    spares = Spares(
        trainer or trainer_environment.command(framework, settings),
        trainer_environment.environment(settings),
        keep=settings.warm_spare,
    )
    supervisor = Supervisor(db, store, settings, spares, worker)
    presence = Presence(db, settings, framework, worker, supervisor)
    spares.start()
    presence.start()
    try:
        consume(settings, framework, supervisor)
    finally:
        spares.stop()
        presence.stop()
        db.close()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    """Nothing runs yet: end, by way of what `finally` cleans up."""
    sys.exit(0)


def consume(settings: Settings, framework: Framework, supervisor: Supervisor) -> None:
    """Celery's worker in this process, as many threads as slots; returns when it was told to stop."""

    def drain(**_: Any) -> None:
        # In a thread: a signal handler must not wait for a lock that its own thread may hold.
        threading.Thread(target=supervisor.drain, name="drain", daemon=True).start()

    def leave_logging_alone(**_: Any) -> None:
        pass

    signals.worker_shutting_down.connect(drain, weak=False)
    signals.setup_logging.connect(leave_logging_alone, weak=False)
    # Celery warns of running as root because of pickle; our messages are JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    app = broker.celery_app(settings.broker_url)
    tasks.register(app, supervisor)
    log.info("worker begins", framework=framework, slots=settings.slots)
    app.Worker(
        pool="threads",
        concurrency=settings.slots,
        queues=[broker.queue_name(framework)],
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        quiet=True,
    ).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--framework", choices=FRAMEWORKS, required=True)
    run(Settings(), cast(Framework, parser.parse_args().framework))


if __name__ == "__main__":
    main()
