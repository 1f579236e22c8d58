"""Exports of registered models: each made once however many ask, two at a time, and kept."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from anyio.to_thread import run_sync

from app.exports.cache import Export, ExportCache
from app.exports.process import ExportProcesses
from models import catalog
from models.errors import CorruptArtifact, NotFound, Unavailable
from models.exports.formats import Format
from workers.artifacts import ArtifactStore
from workers.registry import ModelVersion
from workers.settings import Settings

Key = tuple[str, str]
AT_A_TIME = 2
"""Each takes a framework's memory and a core or more."""
MOST = 6
"""Running and waiting together; more are refused."""


class ExportService:
    """Used on the event loop; what takes long runs in threads, and the exports in processes."""

    def __init__(self, settings: Settings, store: ArtifactStore, *, most: int = MOST) -> None:
        self._most = most
        self._store = store
        self._threads = ThreadPoolExecutor(AT_A_TIME, "exporter")
        self._processes = ExportProcesses(settings.export_timeout_s)
        self._cache = ExportCache(settings.cache_dir / "exports", settings.export_cache_bytes)
        self._making: dict[Key, asyncio.Task[Export]] = {}

    def close(self) -> None:
        """Kills what runs; nothing is left of it."""
        self._processes.close()
        self._threads.shutdown(cancel_futures=True)

    async def export(self, version: ModelVersion, format: Format) -> Export:
        """The version's file in this format: the one made before, or a new one.

        Raises InvalidInput, NotInstalled, ExportFailed, CorruptArtifact, or Unavailable when too many wait or one takes
        too long.
        """
        format.check_takes(catalog.stored(version.spec))
        if (found := await run_sync(self._cache.find, version.sha256, format)) is not None:
            return found
        key = (version.sha256, format.name)
        if key not in self._making:
            format.check_installed()
            self._begin(key, version, format)
        # Shielded: the one who asked first may go away, the others go on waiting.
        return await asyncio.shield(self._making[key])

    def _begin(self, key: Key, version: ModelVersion, format: Format) -> None:
        if len(self._making) >= self._most:
            raise Unavailable(
                f"{len(self._making)} exports are being made already. Try again in a minute.",
                code="too_many_exports",
            )
        self._making[key] = task = asyncio.create_task(self._in_thread(version, format))
        task.add_done_callback(lambda task: self._settle(key, task))

    def _settle(self, key: Key, task: asyncio.Task[Export]) -> None:
        del self._making[key]
        if not task.cancelled():
            task.exception()  # whoever asked may be gone; then nobody else looks at it

    async def _in_thread(self, version: ModelVersion, format: Format) -> Export:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._make, version, format)

    def _make(self, version: ModelVersion, format: Format) -> Export:
        try:
            weights = self._store.verify(version.sha256)
        except NotFound as error:
            raise CorruptArtifact(f"The weights of {version.name}@{version.version} are lost.") from error
        with self._cache.unfinished() as path:
            about = self._processes.run(weights, format, path)
            return self._cache.keep(version.sha256, format, path, about)
