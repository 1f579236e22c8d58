"""The body of an answer."""

import orjson

from app.prediction.batching import Computed
from app.schemas.predictions import Asked
from models.answers import predictions
from models.framework import EngineName
from models.weights import ModelCard
from workers.registry import ModelVersion


def answer(
    version: ModelVersion, engine: EngineName, card: ModelCard, asked: Asked, computed: Computed
) -> bytes:
    """The body of an answer, as `schemas.predictions.Predictions` describes it. Raises InvalidInput."""
    return orjson.dumps(
        {
            "model": {"name": version.name, "version": version.version, "framework": version.framework},
            "engine": engine,
            "predictions": predictions(computed.logits, card, asked),
            "timing": {
                "queue_ms": computed.queue_s * 1000,
                "compute_ms": computed.compute_s * 1000,
                "batch_size": computed.batch_size,
            },
        }
    )
