"""`infer`: a request of the Open Inference Protocol as a query to the prediction service."""

import zlib
from dataclasses import dataclass

import numpy as np

from app.inference_protocol import inputs, outputs
from app.inference_protocol.wire import InferRequest, encoded, parse
from app.prediction.batching import Computed
from app.prediction.query import Reply, Served
from app.schemas.predictions import Engine
from models.errors import InvalidInput, Malformed, TooLarge, UnsupportedMedia
from models.weights import ModelCard

LENGTH_HEADER = "inference-header-content-length"
JSON = (b"content-type", b"application/json")
LONGEST_NUMBER = 18
"""Digits of a version; no more surely fit the database's integers."""
BINARY = (b"content-type", b"application/octet-stream")


@dataclass(frozen=True)
class InferQuery:
    """See `query.Query`. `most_rows`: the most that one request may have. `size`: of its body, in bytes."""

    model: str
    request: InferRequest
    most_rows: int
    size: int

    @property
    def engine(self) -> Engine:
        return self.request.engine

    @property
    def timeout_s(self) -> float | None:
        return self.request.timeout_s

    def is_quick(self, card: ModelCard) -> bool:
        return self.size <= inputs.QUICK_BYTES and inputs.is_quick(self.request)

    def read(self, card: ModelCard) -> np.ndarray:
        outputs.check(self.request, card)
        return inputs.read(self.request, card, self.most_rows)

    def write(self, served: Served, computed: Computed) -> Reply:
        head = {
            "model_name": served.version.name,
            "model_version": str(served.version.version),
            **({} if self.request.id is None else {"id": self.request.id}),
            "parameters": {"engine": served.engine},
        }
        tensors = outputs.written(self.request, served.model.card, computed.logits)
        body, length = encoded(head, [*tensors])
        if length is None:
            return Reply(body, (JSON,))
        return Reply(body, (BINARY, (LENGTH_HEADER.encode(), str(length).encode())))


def query(model: str, body: bytes, header_length: str | None, most_rows: int) -> InferQuery:
    """The query that a body asks. Raises Malformed, InvalidInput, NotSupported."""
    return InferQuery(model, parse(body, header_length), most_rows, len(body))


def reference(model: str, version: str | None) -> str:
    """What an address means, as `name`, `name@3`, `name@alias` or a job's id. Raises InvalidInput."""
    if version is None:
        return model
    if not (version.isascii() and version.isdigit()) or len(version) > LONGEST_NUMBER:
        raise InvalidInput(
            f"{version[:40]!r} is no version; versions are numbers from 1.", pointer="/version"
        )
    if "@" in model:
        raise InvalidInput(f"{model[:80]!r} names a version already.", pointer="/version")
    return f"{model}@{int(version)}"


def plain(body: bytes, encoding: str, most_bytes: int) -> bytes:
    """A body without its Content-Encoding. Raises UnsupportedMedia, Malformed, or TooLarge when it becomes too
    large."""
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "deflate":
            return _inflated(body, most_bytes)
    raise UnsupportedMedia(
        f"Bodies in {encoding[:40]!r} are not taken here; gzip, deflate and plain ones are.",
        pointer="/headers/content-encoding",
    )


def _inflated(body: bytes, most_bytes: int) -> bytes:
    """Of either format, by its first bytes."""
    stream = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        found = stream.decompress(body, most_bytes + 1)
    except zlib.error:
        raise Malformed("The body is not what its Content-Encoding says.") from None
    if len(found) > most_bytes:
        raise TooLarge(f"The body is too large once it is unpacked: at most {most_bytes} bytes are taken.")
    if not stream.eof:
        raise Malformed("The compressed body is cut short.")
    if stream.unused_data:
        raise Malformed("Something follows the compressed body. Send it as one piece.")
    return found
