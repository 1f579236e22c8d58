"""The application: routes, middleware, error handling, and what lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import Receive, Scope, Send

from app import openapi
from app.handlers import Handlers
from app.metrics import Metrics
from app.middleware.body_limits import BodyLimits, Limits
from app.middleware.observation import Observation
from app.middleware.problems import Problems
from app.middleware.request_id import RequestId
from app.prediction.fast_path import FastPath
from app.prediction.service import PredictionService
from app.routes import ROUTERS
from app.security import HostCheck, KeyCheck, SecurityHeaders
from app.services import Services, close_services, open_services
from workers import job_queries
from workers.reconciler import Reconciler
from workers.settings import Settings

UPLOADS = frozenset({"/datasets", "/models"})
TAGS = [
    {"name": "Jobs", "description": "Train a network on a dataset, in PyTorch or JAX."},
    {"name": "Datasets", "description": "Built-in and uploaded."},
    {"name": "Predict", "description": "Any model, on either framework."},
    {
        "name": "Open Inference Protocol",
        "description": "The same predictions for clients of KServe, Triton and MLServer.",
    },
    {"name": "Models", "description": "What jobs have made: versions, aliases, weights."},
    {"name": "Operations", "description": "For those who run the server."},
]


class Application(FastAPI):
    """FastAPI, with the fast path to predictions before all of its layers."""

    def __init__(self, settings: Settings, metrics: Metrics, **given: Any) -> None:
        super().__init__(**given)
        self._fast_path = FastPath(super().__call__, settings, metrics, self._predictions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._fast_path(scope, receive, send)

    def _predictions(self) -> PredictionService | None:
        services: Services | None = getattr(self.state, "services", None)
        return None if services is None else services.predictions


def create_app(settings: Settings) -> FastAPI:
    """The API on these settings. Nothing is opened before it starts."""
    metrics = Metrics()
    app = Application(
        settings,
        metrics,
        title="Tandem",
        version=version("tandem"),
        lifespan=partial(_running, settings=settings, metrics=metrics),
        middleware=_middleware(settings, metrics),
        openapi_tags=TAGS,
        docs_url=None,  # routes/pages.py has it, without another site's scripts
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router)
    Handlers(route for router in ROUTERS for route in router.routes).install(app)
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]  # as FastAPI's guide does
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    # Errors name the nearest parameter with it; made here, it does not hold up the first request that is wrong.
    await run_sync(app.openapi)
    services = await run_sync(open_services, settings, metrics)
    metrics.watch_jobs(partial(job_queries.counts, services.database))
    metrics.watch_dataset_predictions(partial(job_queries.counts, services.database, "prediction"))
    reconciler = Reconciler(services.database, services.store, settings)
    reconciler.start()
    app.state.services = services
    try:
        yield
    finally:
        await run_sync(reconciler.stop)
        await run_sync(close_services, services)


def _middleware(settings: Settings, metrics: Metrics) -> list[Middleware]:
    """From the outside in: named and observed first, so that refusals are too."""
    key = settings.api_key.get_secret_value() if settings.api_key else None
    limits = Limits(
        max_body_bytes=settings.max_body_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        grace_s=settings.body_grace_s,
        min_bytes_per_s=settings.body_min_bytes_per_s,
        uploads=UPLOADS,
    )
    return [
        Middleware(RequestId),
        Middleware(Observation, metrics=metrics),
        Middleware(SecurityHeaders),
        Middleware(Problems),
        Middleware(HostCheck, allowed=settings.allowed_hosts),
        Middleware(KeyCheck, key=key),
        Middleware(BodyLimits, limits=limits),
    ]
