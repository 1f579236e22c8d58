"""Real databases for the tests of jobs: a file for SQLite, a throw-away cluster for PostgreSQL."""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import OperationalError

from models.job import JobSpec
from models.signature import ImageInput, Signature
from workers import datasets, dispatch, job_queries, jobs
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.reports import FinishedModel
from workers.tables import Base

USER = "postgres"


class Cluster:
    """A PostgreSQL server on a unix socket in a folder of its own."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs = programs
        self._folder = folder
        self._numbers = itertools.count()
        self._own_folder()
        self._run(
            "initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "-U", USER, "-D", str(folder / "data")
        )
        self._server = subprocess.Popen(
            self._as_its_user(
                *("postgres", "-D", str(folder / "data"), "-k", str(folder), "-h", ""),
                *("-c", "fsync=off", "-c", "max_connections=200"),
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._admin = create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        self._await_answer()
        self._shared = self._make("shared")
        migrate(self._shared)

    def url(self, name: str) -> str:
        place = {"host": str(self._folder)}
        return URL.create("postgresql+psycopg", username=USER, database=name, query=place).render_as_string()

    def empty(self) -> str:
        """The URL of a new database without tables."""
        return self._make(f"empty{next(self._numbers)}")

    def migrated(self) -> Database:
        """A database at the newest migration, without rows; one test at a time."""
        database = Database(self._shared)
        with database.session() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(table.delete())
        return database

    def stop(self) -> None:
        self._admin.dispose()
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()

    def _make(self, name: str) -> str:
        with self._admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return self.url(name)

    def _own_folder(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._folder, USER, USER)

    def _run(self, *command: str) -> None:
        subprocess.run(self._as_its_user(*command), check=True, stdout=subprocess.DEVNULL, cwd=self._folder)

    def _as_its_user(self, program: str, *arguments: str) -> list[str]:
        """PostgreSQL refuses to run as root. It ends at once when the tests are killed."""
        setpriv = ["setpriv", "--pdeathsig", "SIGQUIT"] if shutil.which("setpriv") else []
        if os.geteuid() == 0:
            setpriv += ["--reuid", USER, "--regid", USER, "--clear-groups"]
        return [*setpriv, str(self._programs / program), *arguments]

    def _await_answer(self) -> None:
        for attempt in itertools.count():
            try:
                with self._admin.connect():
                    return
            except OperationalError:
                if attempt > 200:
                    raise
                time.sleep(0.05)


def migrate(url: str) -> None:
    database = Database(url)
    database.migrate()
    database.close()


def postgresql_programs() -> Path | None:
    """Where initdb and postgres are: on the PATH, or where Debian puts them; the newest."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    return max(installed, key=lambda folder: int(folder.parent.name), default=None)


@pytest.fixture(scope="session")
def cluster():
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL's programs (initdb, postgres) are not installed")
    with tempfile.TemporaryDirectory(prefix="tandem-postgresql-") as folder:
        server = Cluster(programs, Path(folder))
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """A database without tables, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data' / 'tandem.db'}"
    return request.getfixturevalue("cluster").empty()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sqlite") / "tandem.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request, tmp_path):
    """A migrated database, of each kind."""
    if request.param == "sqlite":
        file = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "tandem.db")
        database = Database(f"sqlite:///{file}")
    else:
        database = request.getfixturevalue("cluster").migrated()
    yield database
    database.close()


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def job_spec():
    """Make the spec of a small job; keyword arguments replace its fields."""

    def make(**fields):
        body = {"framework": "torch", "dataset": "digits", "model": {"architecture": "mlp"}, **fields}
        return JobSpec.model_validate({"training": {"epochs": 2}, **body}, strict=False)

    return make


@pytest.fixture
def queued(db, job_spec):
    """Create a queued job."""

    def make(max_attempts=3, **fields):
        spec = job_spec(**fields)
        return jobs.create(db, spec, datasets.get(db, spec.dataset), max_attempts=max_attempts)

    return make


@pytest.fixture
def claimed(db, queued):
    """Create a job and claim it."""

    def make(lease_s=60, **fields):
        return jobs.claim(db, queued(**fields).id, worker="wrk_1", host="here", lease_s=lease_s)

    return make


@pytest.fixture
def model():
    """Make the result of a job. `content` stands for the weights: its hash names them."""

    def make(content=b"weights", **fields):
        signature = Signature(
            task="image-classification", input=ImageInput(height=8, width=8, channels=1), outputs=2
        )
        known = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content), "parameters": 10}
        made = {"signature": signature, "classes": ("a", "b"), "metrics": {"test_accuracy": 0.9}}
        return FinishedModel(**{**known, **made, **fields})

    return make


@pytest.fixture
def statuses(db):
    """The statuses that a job's events tell, in order."""

    def look(job_id):
        return [event.data["status"] for event in job_queries.events(db, job_id) if event.type == "status"]

    return look


@pytest.fixture
def is_done(db):
    """Whether a job's events end with `done`, and it comes once."""

    def look(job_id):
        kinds = [event.type for event in job_queries.events(db, job_id)]
        return kinds[-1] == "done" and kinds.count("done") == 1

    return look


@pytest.fixture
def outcomes(db):
    """How a job's attempts ended, in order."""

    def look(job_id):
        return [attempt.outcome for attempt in job_queries.attempts(db, job_id)]

    return look


@pytest.fixture
def let_lease_expire(db):
    """What the reconciler does once the claim's lease has run out."""

    def wait(claim):
        jobs.heartbeat(db, claim.job.id, claim.fence, lease_s=0.001)
        time.sleep(0.01)
        return dispatch.expire_leases(db)

    return wait


@pytest.fixture
def at_once():
    """The results of calls made by real threads at the same moment; an exception counts as a result."""

    def run(*calls):
        together = threading.Barrier(len(calls))

        def one(call):
            together.wait()
            try:
                return call()
            except Exception as problem:  # noqa: BLE001 - the test looks at it
                return problem

        with ThreadPoolExecutor(len(calls)) as threads:
            return list(threads.map(one, calls))

    return run
