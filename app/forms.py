"""Forms with large files: kept in the uploads folder while their request is answered."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

from starlette.requests import Request

from app.bodies import media_type, require_plain
from app.multipart import FilePart, Form, FormReader, reader
from models.errors import InvalidInput, UnsupportedMedia

FORM = "multipart/form-data"


@contextmanager
def receiving(request: Request, folder: Path, most_files: int, fields: str) -> Iterator[FormReader]:
    """A reader of the request's body; its files are gone at the end. `fields` tells people what else to send.

    Raises UnsupportedMedia for a body that is no form.
    """
    if media_type(request) != FORM:
        raise UnsupportedMedia(f"Send the file as {FORM}, with {fields}.", pointer="/headers/content-type")
    require_plain(request)
    open_file = partial(NamedTemporaryFile, dir=folder, prefix="upload-")
    with reader(request.headers["content-type"], cast("Any", open_file), most_files) as form_reader:
        yield form_reader


def files_of(form: Form, wanted: str, optional: str | None = None) -> dict[str, FilePart]:
    """The form's files by the names of their parts. Raises InvalidInput for one that is missing, or not expected."""
    known = (wanted,) if optional is None else (wanted, optional)
    found: dict[str, FilePart] = {}
    for part in form.files:
        name = part.field[:80]
        if part.field not in known:
            raise InvalidInput(
                f"The file is in the part {name!r}; name it {' or '.join(map(repr, known))}.",
                pointer=f"/{name}",
            )
        if part.field in found:
            raise InvalidInput(f"The form has two files named {name!r}; send one.", pointer=f"/{name}")
        found[part.field] = part
    if wanted not in found:
        raise InvalidInput(
            f"The form has no file. Send it as a part named {wanted!r}, with a file name.",
            pointer=f"/{wanted}",
        )
    return found


def path_of(part: FilePart) -> Path:
    """Where the file lies."""
    return Path(part.content.name)
