"""`multipart/form-data`, read as it comes: fields into memory, files to wherever the caller wants them.

Starlette's own form parser gives anonymous temporary files and knows neither hashes nor where they should be.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from anyio.to_thread import run_sync
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from models.errors import InvalidInput, Malformed, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LARGEST_FIELD_BYTES = 64 * 1024
MOST_FIELDS = 32


@dataclass
class FilePart:
    """A file of the form. Of the name that the client gave it, only the suffix is kept."""

    field: str
    suffix: str
    content_type: str
    content: BinaryIO
    sha256: str = ""


@dataclass
class Form:
    """Fields by name, and the files in their order."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[FilePart] = field(default_factory=list)


@contextmanager
def reader(content_type: str, open_file: Callable[[], BinaryIO], most_files: int) -> Iterator["FormReader"]:
    """A reader whose files are closed at the end."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:
        raise Malformed("multipart/form-data needs a boundary.", pointer="/headers/content-type")
    with ExitStack() as files:
        yield FormReader(boundary, lambda: files.enter_context(open_file()), most_files)


class FormReader:
    """Takes the body piece by piece; `form` is complete after `finish`."""

    def __init__(self, boundary: bytes, open_file: Callable[[], BinaryIO], most_files: int) -> None:
        self.form = Form()
        self._open_file = open_file
        self._most_files = most_files
        self._finished = False
        self._header = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text = bytearray()
        self._file: FilePart | None = None
        self._digest = hashlib.sha256()
        callbacks: MultipartCallbacks = {
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    async def read(self, request: Request) -> Form:
        """The whole body. Files are written off the event loop, for the disk may be slow."""
        async for piece in request.stream():
            await run_sync(self.write, piece)
        return self.finish()

    def write(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise Malformed(
                f"The body is not multipart/form-data: {error}", code="invalid_multipart"
            ) from None

    def finish(self) -> Form:
        if not self._finished:
            raise Malformed("The body ends before its last boundary.", code="invalid_multipart")
        return self.form

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise Malformed("A part of the form has no name.", code="invalid_multipart")
        self._name = _text(options[b"name"], "")
        content_type = self._headers.get(b"content-type", b"").decode("latin-1")
        self._headers = {}
        if b"filename" in options:
            self._begin_file(_text(options[b"filename"], self._name), content_type)
        elif self._name in self.form.fields:
            raise InvalidInput(
                f"The field {self._name[:80]!r} is given twice.", pointer=f"/{self._name[:80]}"
            )
        elif len(self.form.fields) >= MOST_FIELDS:
            raise TooLarge(f"The form has more than {MOST_FIELDS} fields.")

    def _begin_file(self, filename: str, content_type: str) -> None:
        if len(self.form.files) >= self._most_files:
            raise TooLarge(
                f"The form has more than {self._most_files} file(s).", pointer=f"/{self._name[:80]}"
            )
        suffix = PurePosixPath(filename).suffix.lower()
        self._file = FilePart(self._name, suffix, content_type, self._open_file())
        self._digest = hashlib.sha256()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        piece = memoryview(data)[start:end]
        if self._file is not None:
            self._file.content.write(piece)
            self._digest.update(piece)
            return
        self._text += piece
        if len(self._text) > LARGEST_FIELD_BYTES:
            raise TooLarge(
                f"A field holds at most {LARGEST_FIELD_BYTES} bytes; send files as files.",
                pointer=f"/{self._name[:80]}",
            )

    def _on_part_end(self) -> None:
        if self._file is None:
            self.form.fields[self._name] = _text(bytes(self._text), self._name)
        else:
            self._file.content.flush()
            self._file.sha256 = self._digest.hexdigest()
            self.form.files.append(self._file)
        self._file, self._text = None, bytearray()

    def _on_end(self) -> None:
        self._finished = True


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Malformed("The form holds text that is not UTF-8.", pointer=f"/{name[:80]}") from None
