"""One file over HTTP, gone on with where a crash broke it off, and checked by its hash."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import file_digest
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from models.errors import Unavailable

PIECE_BYTES = 1 << 20
SILENCE_S = 30.0
"""A server that sends nothing for so long is given up."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Digest:
    """What a file's hash must begin with. `algorithm` is one of hashlib's."""

    prefix: str
    algorithm: str = "sha256"

    def fits(self, path: Path) -> bool:
        with path.open("rb") as file:
            return file_digest(file, self.algorithm).hexdigest().startswith(self.prefix)

    def __str__(self) -> str:
        return f"{self.algorithm.upper().replace('SHA', 'SHA-')} does not begin with {self.prefix}"


def download(url: str, path: Path, digest: Digest, say: Say, *, folder: str) -> None:
    """Fetch `url` to `path`. What came is kept beside it in `<name>.part`, and the next call goes on from there.

    `folder` tells people where else the file may be put.

    Raises:
        Unavailable: it cannot be fetched, or what came has another hash; that is deleted then.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        _fetch(url, part, say)
    except (OSError, HTTPException) as error:
        raise Unavailable(
            f"{url} could not be downloaded ({error}). Allow the download, or put the file into {folder}.",
            code="download_failed",
        ) from error
    if not digest.fits(part):
        part.unlink()
        raise Unavailable(
            f"What came from {url} is not what was published: its {digest}.",
            code="download_damaged",
        )
    part.replace(path)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _fetch(url: str, part: Path, say: Say) -> None:
    had = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={had}-"} if had else {})  # noqa: S310 - torchvision's address
    try:
        with urlopen(request, timeout=SILENCE_S) as answer:  # noqa: S310
            _receive(answer, part, had if answer.status == 206 else 0, say)
    except HTTPError as error:
        error.close()  # it is the answer too, with its connection
        if error.code != 416:  # 416: the part is whole, or longer than the file; its hash will tell
            raise


def _receive(answer: HTTPResponse, part: Path, had: int, say: Say) -> None:
    expected = had + int(answer.headers.get("Content-Length", 0))
    with part.open("r+b" if had else "wb") as file:
        file.seek(had)
        told = -1
        while piece := answer.read(PIECE_BYTES):
            file.write(piece)
            if expected and (percent := 100 * file.tell() // expected) >= told + 5:
                told = percent
                say(f"{percent} %")
        file.flush()
        os.fsync(file.fileno())
        if file.tell() < expected:
            raise OSError(f"the connection broke after {file.tell()} of {expected} bytes")
