"""The body of an answer."""

import orjson

from app.prediction.batching import Computed
from app.prediction.query import Served
from app.schemas.predictions import Asked
from models.answers import predictions


def answer(served: Served, asked: Asked, computed: Computed) -> bytes:
    """The body of an answer, as `schemas.predictions.Predictions` describes it. Raises InvalidInput."""
    return orjson.dumps(
        {
            "model": served.named,
            "engine": served.engine,
            "predictions": predictions(computed.logits, served.model.card, asked),
            "timing": {
                "queue_ms": computed.queue_s * 1000,
                "compute_ms": computed.compute_s * 1000,
                "batch_size": computed.batch_size,
            },
        }
    )
