"""The application: routes, middleware, error handling, and what lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI
from starlette.middleware import Middleware

from app import openapi, parameters
from app.counts import Counts
from app.handlers import Handlers
from app.middleware.body_limits import BodyLimits, Limits
from app.middleware.head import Head
from app.middleware.observation import Observation
from app.middleware.problems import Problems
from app.middleware.request_id import RequestId
from app.place import Place
from app.prediction.fast_path import FastPath
from app.routes import ROUTERS, health, inference_protocol, pages
from app.security import HostCheck, KeyCheck, SecurityHeaders
from app.services import close_services, open_services
from workers.reconciler import Reconciler
from workers.settings import Settings

ALONE = Place()
TOLERANT = (health.router, inference_protocol.router, pages.router)
"""What probes, Triton's clients and browsers add to addresses means nothing here, and is left out."""
UPLOADS = frozenset({"/datasets", "/models"})
TAGS = [
    {"name": "Jobs", "description": "Train a network on a dataset, in PyTorch or JAX."},
    {"name": "Comparisons", "description": "One training in both frameworks, and which suits it."},
    {"name": "Datasets", "description": "Built-in and uploaded."},
    {"name": "Predict", "description": "Any model, on either framework."},
    {
        "name": "Open Inference Protocol",
        "description": "The same predictions for clients of KServe, Triton and MLServer.",
    },
    {"name": "Models", "description": "What jobs have made: versions, aliases, weights."},
    {"name": "Operations", "description": "For those who run the server."},
]


def create_app(settings: Settings, place: Place = ALONE) -> FastAPI:
    """The API on these settings, as one of several processes or alone. Nothing is opened before it starts.

    `state.fast_path` is for the connections (see `process.config`); on another server's all goes the usual way.
    """
    counts = Counts()
    app = FastAPI(
        title="Tandem",
        version=version("tandem"),
        lifespan=partial(_running, settings=settings, counts=counts, place=place),
        middleware=_middleware(settings, counts),
        openapi_tags=TAGS,
        docs_url=None,  # routes/pages.py has it, without another site's scripts
        redoc_url=None,
    )
    for router in ROUTERS:
        app.include_router(router, dependencies=[] if router in TOLERANT else [Depends(parameters.check)])
    Handlers(route for router in ROUTERS for route in router.routes).install(app)
    app.openapi = partial(openapi.document, app)  # type: ignore[method-assign]  # as FastAPI's guide does
    app.state.fast_path = FastPath(settings, counts)
    return app


@asynccontextmanager
async def _running(app: FastAPI, settings: Settings, counts: Counts, place: Place) -> AsyncIterator[None]:
    async with AsyncExitStack() as last:
        services = await run_sync(open_services, settings, counts, place)
        last.push_async_callback(run_sync, close_services, services)
        reconciler = Reconciler(services.database, services.store, settings)
        reconciler.start()
        last.push_async_callback(run_sync, reconciler.stop)
        await services.siblings.start()
        last.callback(services.siblings.stop)
        services.residents.start()
        last.push_async_callback(services.residents.stop)
        app.state.services = services
        app.state.fast_path.service = services.predictions
        try:
            yield
        finally:
            app.state.fast_path.service = None


def _middleware(settings: Settings, counts: Counts) -> list[Middleware]:
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
        Middleware(Observation, counts=counts),
        Middleware(SecurityHeaders),
        Middleware(Problems),
        Middleware(HostCheck, allowed=settings.allowed_hosts),
        Middleware(KeyCheck, key=key),
        Middleware(BodyLimits, limits=limits),
        Middleware(Head),
    ]
