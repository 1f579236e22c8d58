"""The message broker: Celery's settings, and a publish that never makes a request wait.

A message only says "this job may be waiting"; the row in the database is the truth. So a publish may fail:
the reconciler sends it again.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import lru_cache
from queue import SimpleQueue
from typing import TYPE_CHECKING

from models.framework import Framework
from workers.settings import Settings

if TYPE_CHECKING:
    from celery import Celery
    from redis import Redis

TASK = "train"
PATIENCE_S = 0.4
"""The longest a publish or a ping may take. A frozen server accepts connections and never answers."""

_one_at_a_time = threading.Lock()


def queue_name(framework: Framework) -> str:
    return f"train.{framework}"


def celery_app(broker_url: str) -> Celery:
    """A Celery application for this broker: early acknowledgement, no prefetching, no results, JSON only."""
    from celery import Celery

    app = Celery("tandem", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_acks_late=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "max_retries": 1,
            "interval_start": 0,
            "interval_max": 0.1,
        },
    )
    return app


def prepare(settings: Settings) -> None:
    """Load what publishing needs: imports that the first message then won't wait for."""
    _outbox(settings.broker_url).wait_until_loaded()


def publish(settings: Settings, framework: Framework, job_id: str) -> bool:
    """Tell the framework's workers that a job is waiting. Returns whether the message was sent.

    Never raises and, after `prepare`, takes at most `PATIENCE_S`. After False the message may still arrive, once or
    twice: that does no harm.
    """
    outbox = _outbox(settings.broker_url)
    outbox.wait_until_loaded()
    return outbox.send(queue_name(framework), job_id)


def ping(settings: Settings) -> bool:
    """Whether the broker answers, within `PATIENCE_S` or so."""
    from redis import RedisError

    try:
        return bool(_client(settings.broker_url).ping())
    except RedisError:
        return False


def backlog(settings: Settings, framework: Framework) -> int | None:
    """How many messages wait in the framework's queue; None when the broker does not answer."""
    from redis import RedisError

    try:
        return int(_client(settings.broker_url).llen(queue_name(framework)))
    except RedisError:
        return None


class Outbox:
    """One thread that publishes, so that whoever asks can stop waiting.

    While it is stuck on a frozen server, further messages are refused at once rather than piled up.
    """

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._letters: SimpleQueue[tuple[str, str, Future[None]]] = SimpleQueue()
        self._late: Future[None] | None = None
        self._loaded = threading.Event()
        threading.Thread(target=self._serve, name="outbox", daemon=True).start()

    def wait_until_loaded(self) -> None:
        self._loaded.wait()

    def send(self, queue: str, job_id: str) -> bool:
        if self._late is not None and not self._late.done():
            return False
        sent: Future[None] = Future()
        self._letters.put((queue, job_id, sent))
        try:
            sent.result(PATIENCE_S)
        except TimeoutError:
            if not sent.cancel():
                self._late = sent
            return False
        except Exception:  # noqa: BLE001 - whatever the broker's client raised, the message was not sent
            return False
        return True

    def _serve(self) -> None:
        try:
            app = celery_app(self._broker_url)
            # Celery and kombu import lazily; asking for these attributes does it.
            assert app.amqp.router
            assert app.connection_for_write().transport
        finally:
            self._loaded.set()
        while True:
            queue, job_id, sent = self._letters.get()
            if not sent.set_running_or_notify_cancel():
                continue
            try:
                app.send_task(TASK, args=[job_id], queue=queue, retry=False)
                sent.set_result(None)
            except Exception as problem:  # noqa: BLE001 - whatever it is, the sender is told
                sent.set_exception(problem)


def _outbox(broker_url: str) -> Outbox:
    with _one_at_a_time:
        return _cached_outbox(broker_url)


@lru_cache
def _cached_outbox(broker_url: str) -> Outbox:
    return Outbox(broker_url)


@lru_cache
def _client(broker_url: str) -> Redis:
    from redis import Redis

    return Redis.from_url(
        _redis_url(broker_url), socket_timeout=PATIENCE_S, socket_connect_timeout=PATIENCE_S
    )


def _redis_url(broker_url: str) -> str:
    """The broker's URL as redis-py spells it: kombu writes a unix socket `redis+socket://`, redis-py `unix://`."""
    scheme, _, rest = broker_url.partition("://")
    return f"unix://{rest.replace('virtual_host=', 'db=')}" if scheme == "redis+socket" else broker_url
