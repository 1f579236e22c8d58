"""What can go wrong, as facts. `app/errors.py` maps these classes to HTTP status codes."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar


@dataclass(frozen=True)
class FieldProblem:
    """One field at fault: `pointer` is a JSON pointer (RFC 6901) into the request."""

    pointer: str
    code: str
    detail: str


class TandemError(Exception):
    """Base of every error that Tandem raises on purpose.

    `detail` is one sentence or two for a person: what is wrong and what to do. `pointer` names the field.
    """

    code: ClassVar[str] = "error"

    def __init__(self, detail: str, *, pointer: str | None = None, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointer = pointer
        self.specific_code = code or self.code

    @property
    def problems(self) -> tuple[FieldProblem, ...]:
        if self.pointer is None:
            return ()
        return (FieldProblem(self.pointer, self.specific_code, self.detail),)


class InvalidInput(TandemError):
    """The request is well-formed but cannot be carried out as written."""

    code = "invalid_input"


class Malformed(TandemError):
    """The body cannot be read at all: bad encoding or syntax."""

    code = "malformed"


class NotFound(TandemError):
    code = "not_found"


class Conflict(TandemError):
    """The request contradicts the present state. `retry_after_s` is set if it may work later."""

    code = "conflict"

    def __init__(
        self,
        detail: str,
        *,
        pointer: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail, pointer=pointer, code=code)
        self.retry_after_s = retry_after_s


class TooLarge(TandemError):
    code = "too_large"


class UnsupportedMedia(TandemError):
    code = "unsupported_media_type"


class Unavailable(TandemError):
    """Something this needs does not answer now; the same request may work later."""

    code = "unavailable"


class EngineUnavailable(Unavailable):
    """An engine cannot take a model now; others can."""

    code = "engine_unavailable"


class CorruptArtifact(TandemError):
    """A stored file does not match its hash or cannot be read."""

    code = "corrupt_artifact"


class NotInstalled(TandemError):
    """An optional package that this needs is not there."""

    code = "not_installed"


class NotSupported(TandemError):
    """Something that is well asked for, but that this part of the program does not do."""

    code = "not_supported"


class ExportFailed(TandemError):
    """A model could not be written in another format so that it computes the same."""

    code = "export_failed"


class TrainingError(TandemError):
    """Ends a training job as failed; trying again with the same spec would end the same."""

    code = "training_error"


class Diverged(TrainingError):
    """The loss is no longer a finite number."""

    code = "diverged"


class OutOfMemory(TrainingError):
    """The device has too little memory for this batch size."""

    code = "out_of_memory"


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with an unknown name: the nearest known one, else all of them."""
    names = sorted(known)
    if (near := nearest(name.lower(), names)) is not None:
        return f"Did you mean {near!r}?"
    return f"Known: {', '.join(names)}." if names else "There are none yet."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is spelled most like this one, if any is."""
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return near[0] if near else None
