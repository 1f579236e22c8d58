"""The addresses, one module a noun. `ROUTERS` is all of them."""

from fastapi import APIRouter

from app.routes import (
    architectures,
    comparisons,
    dataset_predictions,
    datasets,
    engines,
    events,
    exports,
    health,
    imports,
    inference_protocol,
    jobs,
    models,
    pages,
    predictions,
    workers,
)

ROUTERS: tuple[APIRouter, ...] = (
    jobs.router,
    events.router,
    comparisons.router,
    datasets.router,
    predictions.router,
    dataset_predictions.router,
    inference_protocol.router,
    models.router,
    imports.router,
    engines.router,
    exports.router,
    workers.router,
    architectures.router,
    health.router,
    pages.router,
)
