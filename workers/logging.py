"""Structured logs to standard error, one event a line: ours, and those of the libraries.

Bind what belongs to a request or a job with `structlog.contextvars`: `request_id`, `job_id`.
"""

import logging
import sys

import structlog
from structlog.tracebacks import ExceptionDictTransformer

from workers.settings import Settings

QUIET = {
    "alembic": "warning",
    "celery.app.trace": "warning",
    "celery.worker.strategy": "warning",
    "httpx": "warning",
    "kombu": "warning",
}
"""Libraries that talk more than helps at our level."""


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's logs through one formatter. Call once, when a process starts."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()], processors=_rendering(settings)
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level.upper())


def _rendering(settings: Settings) -> list[structlog.typing.Processor]:
    """Tracebacks come without local variables, unlike structlog's default: among them are headers with the key, and
    what clients have sent."""
    without_bookkeeping = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if settings.log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        return [without_bookkeeping, renderer]
    return [
        without_bookkeeping,
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(),
    ]
