"""Everything that the routes work with, made once per application."""

from dataclasses import dataclass

from anyio import CapacityLimiter

from app.counts import Counts
from app.exports.service import ExportService
from app.place import Place
from app.prediction.residents import Residents
from app.prediction.service import PredictionService
from app.publishing import Publisher
from app.siblings import Siblings, State
from app.streams import Streams
from workers.artifacts import ArtifactStore
from workers.database import Database
from workers.settings import Settings

UPLOADS_AT_A_TIME = 2
"""Uploads being checked and split, each in a thread; others wait and leave the threads to other requests."""


@dataclass(frozen=True)
class Services:
    """What the routes work with."""

    settings: Settings
    database: Database
    store: ArtifactStore
    publisher: Publisher
    predictions: PredictionService
    residents: Residents
    exports: ExportService
    streams: Streams
    ingestion: CapacityLimiter
    siblings: Siblings


def open_services(settings: Settings, counts: Counts, place: Place) -> Services:
    """Services on a database that is up to date. `close_services` ends them."""
    for folder in (settings.artifacts_dir, settings.uploads_dir):
        folder.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    database.migrate()
    store = ArtifactStore(settings.artifacts_dir)
    predictions = PredictionService(settings, database, store, counts)
    return Services(
        settings=settings,
        database=database,
        store=store,
        publisher=Publisher(settings, database),
        predictions=predictions,
        residents=Residents(database, predictions),
        exports=ExportService(settings, store),
        streams=Streams(settings.max_event_streams),
        ingestion=CapacityLimiter(UPLOADS_AT_A_TIME),
        siblings=Siblings(place, lambda: State(counts, predictions.cache.state(), predictions.cache.held())),
    )


def close_services(services: Services) -> None:
    services.publisher.close()
    services.predictions.close()
    services.exports.close()
    services.database.close()
