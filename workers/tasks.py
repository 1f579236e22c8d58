"""The one task: a door to the supervisor."""

from celery import Celery

from workers.broker import TASK
from workers.supervisor import Supervisor


def register(app: Celery, supervisor: Supervisor) -> None:
    """Add the task to the application."""

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def train(job_id: str) -> None:
        supervisor.run(job_id)
