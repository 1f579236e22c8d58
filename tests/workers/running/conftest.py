"""A database, a store, jobs and workers: all real; only the network that most jobs train is a toy."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from app.prediction_submission import settled
from models.data.builtin import BUILTIN
from models.data.dataset import write
from models.data.inspection import inspected
from models.framework import Framework
from models.job import JobSpec
from models.scoring.spec import PredictionSpec
from models.training import resolve
from workers import (
    broker,
    datasets,
    dispatch,
    fleet,
    job_queries,
    jobs,
    predictions,
    processes,
    trainer_environment,
)
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.job_records import Job
from workers.reconciler import Reconciler
from workers.settings import Settings
from workers.spares import Spares
from workers.supervisor import Supervisor
from workers.valkey import EmbeddedValkey

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TOY_TRAINER = [sys.executable, str(HERE / "toy_trainer.py")]
TOY_WORKER = [sys.executable, str(HERE / "toy_worker.py")]
TOY_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Bench:
    """One installation: settings, database, store, and ways to put jobs in and watch them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db = Database(settings.database_url)
        self.db.migrate()
        self.store = ArtifactStore(settings.artifacts_dir)

    def keep(self, digits: Path) -> None:
        """Have the digits in the store."""
        datasets.record_prepared(self.db, "digits", self.store.put(digits))

    def submit(self, **job: object) -> str:
        """As POST /jobs does: the row first, then a message, which may not arrive."""
        return self.announce(self.job(**job))

    def announce(self, job_id: str) -> str:
        """Send the message of a job that is there."""
        if broker.publish(self.settings, self.get(job_id).framework, job_id):
            dispatch.mark_dispatched(self.db, job_id)
        return job_id

    def job(
        self,
        *,
        framework: str = "torch",
        model: dict | None = None,
        epochs: int = 2,
        max_attempts: int = 3,
        resumed_from: str | None = None,
        init: object = "scratch",
        training: dict | None = None,
        **habits: object,
    ) -> str:
        """A queued job on digits; `habits` are the toy trainer's. Returns its id."""
        body = {
            "framework": framework,
            "dataset": "digits",
            "model": model or {"architecture": "linear"},
            "training": {
                "epochs": epochs,
                "optimizer": {"name": "sgd", "learning_rate": 0.1},
                **(training or {}),
            },
            "init": {"from": init},
            "metadata": habits,
        }
        spec = JobSpec.model_validate(body, strict=False)
        dataset = datasets.get(self.db, "digits")
        description = dataset.description
        resolved = resolve(spec.model, spec.training, description.signature, description.splits.train)
        spec = spec.model_copy(update={"training": resolved})
        made = jobs.create(self.db, spec, dataset, max_attempts=max_attempts, resumed_from=resumed_from)
        return made.id

    def prediction(
        self,
        model: str,
        *,
        dataset: str = "digits",
        max_attempts: int = 3,
        **asked: object,
    ) -> str:
        """A queued prediction; `metadata` among what is asked are the toy trainer's habits. Returns its id."""
        body = {"model": model, "dataset": dataset, "split": "all", **asked}
        spec, record, version = settled(self.db, PredictionSpec.model_validate(body))
        return predictions.create(self.db, spec, record, version, max_attempts=max_attempts).id

    def result(self, prediction: str) -> Path:
        """The file that a succeeded prediction made."""
        return predictions.result(self.store, self.get(prediction))

    def get(self, job_id: str) -> Job:
        return job_queries.get(self.db, job_id)

    def status(self, job_id: str) -> str:
        return self.get(job_id).status

    def step(self, job_id: str) -> int:
        return self.get(job_id).step or 0

    def worker_is_there(self) -> bool:
        return eventually(lambda: fleet.page(self.db).data)

    def reaches(self, job_id: str, step: int) -> bool:
        return eventually(lambda: self.step(job_id) >= step, 60)

    def saves_a_checkpoint(self, job_id: str) -> bool:
        return eventually(lambda: job_queries.checkpoints(self.db, job_id), 60)

    def first_loss(self, job_id: str) -> float:
        events = job_queries.events(self.db, job_id)
        return next(event.data["train_loss"] for event in events if "train_loss" in event.data)

    def trained_steps(self, job_id: str) -> list[int]:
        """The steps whose loss was reported, in that order; one that was trained twice is there twice."""
        events = job_queries.events(self.db, job_id, limit=100_000)
        return [event.data["step"] for event in events if "train_loss" in event.data]

    def freeze(self, pid: int) -> None:
        """SIGSTOP at a moment when the process does not hold SQLite's write lock, which would stop everybody."""
        while True:
            os.kill(pid, signal.SIGSTOP)
            with closing(sqlite3.connect(self.settings.data_dir / "tandem.db", timeout=0.2)) as probe:
                try:
                    probe.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError:
                    os.kill(pid, signal.SIGCONT)

    def is_dead(self, pid: int) -> bool:
        """Dead, though perhaps not reaped."""
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    def trainers(self) -> list[int]:
        """Trainer processes of this test process."""
        return [
            pid
            for pid in children(os.getpid())
            if b"--messages-fd" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    @contextmanager
    def locked_database(self) -> Iterator[None]:
        """Nobody else can write until the end."""
        with self.db.session() as session:
            session.execute(text("SELECT 1"))  # the transaction begins with its first statement
            yield

    def weights(self, job_id: str) -> bytes:
        """The bytes of the weights file that a succeeded job registered."""
        from workers import registry

        return self.store.path(registry.resolve(self.db, job_id).sha256).read_bytes()

    def outcomes(self, job_id: str) -> list[str | None]:
        return [attempt.outcome for attempt in job_queries.attempts(self.db, job_id)]

    @contextmanager
    def supervisor(
        self, trainer: list[str] = TOY_TRAINER, *, framework: Framework | None = None, spare: bool = True
    ) -> Iterator[Supervisor]:
        """A supervisor with toy trainers, or with the real ones of a framework."""
        environment = TOY_ENVIRONMENT
        if framework is not None:
            trainer = trainer_environment.command(framework, self.settings)
            environment = trainer_environment.environment(self.settings)
        spares = Spares(trainer, environment, keep=spare)
        spares.start()
        supervisor = Supervisor(self.db, self.store, self.settings, spares, "wrk_test")
        try:
            yield supervisor
        finally:
            supervisor.drain()
            supervisor.drain()
            spares.stop()

    @contextmanager
    def running(self, supervisor: Supervisor, job_id: str) -> Iterator[threading.Thread]:
        """The supervisor at work on the job in a thread; joined at the end."""
        thread = threading.Thread(target=supervisor.run, args=(job_id,))
        thread.start()
        try:
            yield thread
        finally:
            thread.join(60)
            assert not thread.is_alive()

    def environment(self) -> dict[str, str]:
        """For processes that read their settings from it."""
        return {**TOY_ENVIRONMENT, **self.settings.environment()}

    @contextmanager
    def worker(self, command: list[str] = TOY_WORKER, **settings: object) -> Iterator[processes.Process]:
        """A worker process; killed at the end if it is still there."""
        environment = {f"TANDEM_{name.upper()}": str(value) for name, value in settings.items()}
        process = processes.spawn(command, environment={**self.environment(), **environment})
        try:
            yield process
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
            processes.kill(process)


def short(folder: Path, **more: object) -> Settings:
    """Settings under which a lost worker is noticed in two or three seconds."""
    return Settings(
        **{
            "data_dir": folder,
            "beat_s": 0.25,
            "lease_s": 2.5,
            "reconcile_every_s": 0.2,
            "redispatch_s": 1.0,
            "backoff_s": 0.1,
            "checkpoint_every_s": 0.3,
            "grace_s": 10,
            "threads": 1,
            **more,
        }
    )


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits as a dataset file, so that not every trainer has to make one."""
    path = tmp_path_factory.mktemp("digits") / "dataset.safetensors"
    write(inspected(BUILTIN["digits"].load(path.parent)), path)
    return path


@pytest.fixture
def bench(tmp_path: Path, digits: Path) -> Iterator[Bench]:
    made = Bench(short(tmp_path))
    made.keep(digits)
    yield made
    made.db.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def fleet_bench(tmp_path: Path, digits: Path, valkey: EmbeddedValkey) -> Iterator[Bench]:
    """A bench with a broker and a reconciler, for tests with worker processes."""
    made = Bench(short(tmp_path, broker_url=valkey.url))
    made.keep(digits)
    reconciler = Reconciler(made.db, made.store, made.settings)
    reconciler.start()
    yield made
    reconciler.stop()
    made.db.close()


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., bool]:
    return eventually


@pytest.fixture(name="children")
def _children() -> Callable[[int], list[int]]:
    return children


@pytest.fixture
def toy_trainer() -> tuple[list[str], dict[str, str]]:
    """Command and environment."""
    return TOY_TRAINER, TOY_ENVIRONMENT


@pytest.fixture
def toy_worker() -> Callable[[str], list[str]]:
    """The command of a framework's worker with the toy trainer."""
    return lambda framework: [*TOY_WORKER, framework]


@pytest.fixture(name="new_bench")
def _new_bench() -> Callable[..., Bench]:
    """Another bench, with nothing in it."""
    return lambda folder, **settings: Bench(short(folder, **settings))


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]
