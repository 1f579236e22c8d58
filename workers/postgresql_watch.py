"""Changes of a PostgreSQL database, as it tells of them."""

import threading

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from workers.database import GIVE_UP_ON_SILENCE, Database

LISTEN_S = 0.5
"""How soon a watch that is closed notices, and how long it waits after a lost connection."""

log = structlog.get_logger("workers.watch")


class PostgreSQLWatch:
    """By notifications, which a thread of its own listens to. While there is no connection, everything has changed."""

    def __init__(self, db: Database, channel: str) -> None:
        self._channel = channel
        self._url = make_conninfo(db.connection_string, connect_timeout=5, **GIVE_UP_ON_SILENCE)
        self._changed = True
        self._listening = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="model-watch", daemon=True)
        self._thread.start()

    def changed(self) -> bool:
        if not self._listening:
            return True
        changed, self._changed = self._changed, False
        # Between the two lines above the connection may have been lost, or found again.
        return changed or not self._listening

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._closed.is_set():
            try:
                self._follow()
            except psycopg.Error as error:
                log.warning("watch_lost_its_connection", error=str(error).strip())
            except Exception:  # without this thread nobody would hear of a change any more
                log.exception("watch_lost_its_connection")
            finally:
                self._listening = False
            self._closed.wait(LISTEN_S)

    def _follow(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"LISTEN {self._channel}")
            self._changed = self._listening = True
            while not self._closed.is_set():
                for _ in connection.notifies(timeout=LISTEN_S, stop_after=1):
                    self._changed = True
