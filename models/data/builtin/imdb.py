"""50,000 film reviews to tell good from bad, as their publisher packs them.

Source: A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011,
https://ai.stanford.edu/~amaas/data/sentiment/.
"""

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.data.assembly import assemble
from models.data.builtin.source import Builtin
from models.data.dataset import Dataset, DatasetDescription, Split, Splits
from models.data.texts import Texts
from models.errors import InvalidInput
from models.fetching import Digest, download
from models.signature import TextInput

NAME = "imdb"
CLASSES = ("neg", "pos")
URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
# The publisher states no hash; this is the one that other libraries have checked the archive by for years.
DIGEST = Digest("7c2ac02c03563afcf9b574c7e56c153a", "md5")
ARCHIVE, TREE = "aclImdb_v1.tar.gz", "aclImdb"
LARGEST_REVIEW_BYTES = 1 << 20
_REVIEW = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos)/(\d{1,9})_(\d{1,2})\.txt")

Key = tuple[str, str, int]
"""The part, the class, and the number of a review: what they are sorted by, for archives have them in any order."""


@dataclass(frozen=True)
class Reviews:
    """Reads the set from a folder that has the archive or the unpacked tree, and fetches the archive otherwise."""

    url: str = URL
    digest: Digest = DIGEST

    def __call__(self, root: Path) -> Dataset:
        """Raises Unavailable where it cannot be fetched, InvalidInput where the files are not the publisher's."""
        found = dict(sorted(self._found(root)))
        parts = {
            part: {key: text for key, text in found.items() if key[0] == part} for part in ("train", "test")
        }
        if not all(parts.values()):
            raise InvalidInput(
                f"The files of {NAME!r} hold no reviews in {TREE}/train and {TREE}/test. Replace them with the"
                f" publisher's {ARCHIVE}.",
                pointer="/dataset",
            )
        train, test = (_split(part) for part in parts.values())
        return assemble("text-classification", train, classes=CLASSES, test=test)

    def _found(self, root: Path) -> Iterator[tuple[Key, str]]:
        for folder in (root / NAME, root):
            if (folder / TREE / "train").is_dir():
                return _of_tree(folder)
            if (folder / ARCHIVE).is_file():
                return _of_archive(folder / ARCHIVE)
        folder = root / NAME
        folder.mkdir(parents=True, exist_ok=True)
        where = f"a folder named {NAME!r} in the datasets folder"
        download(self.url, folder / ARCHIVE, self.digest, lambda text: None, folder=where)
        return _of_archive(folder / ARCHIVE)


def _of_tree(folder: Path) -> Iterator[tuple[Key, str]]:
    for path in (folder / TREE).glob("*/*/*.txt"):
        if (key := _key(path.relative_to(folder).as_posix())) is not None:
            yield key, _text(path.read_bytes(), path.name)


def _of_archive(path: Path) -> Iterator[tuple[Key, str]]:
    """The reviews in an archive; nothing is unpacked onto the disk, and other members are not looked at."""
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                key = _key(member.name)
                if key is None or not member.isfile():
                    continue
                if member.size > LARGEST_REVIEW_BYTES:
                    raise InvalidInput(
                        f"{member.name!r} in {path.name} has {member.size} bytes.", pointer="/dataset"
                    )
                file = archive.extractfile(member)
                assert file is not None
                yield key, _text(file.read(), member.name)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InvalidInput(
            f"{path.name} is damaged: {error}. Remove it to have it downloaded again.", pointer="/dataset"
        ) from error


def _key(name: str) -> Key | None:
    found = _REVIEW.fullmatch(name)
    return found and (found[1], found[2], int(found[3]))


def _text(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{name!r} of {NAME!r} is not a text in UTF-8.", pointer="/dataset") from None


def _split(part: dict[Key, str]) -> Split:
    labels = np.array([CLASSES.index(label) for _, label, _ in part], np.int64)
    return Split(Texts.of(part.values()), labels)


def reviews(reader: Reviews, splits: Splits) -> Builtin:
    description = DatasetDescription(
        task="text-classification", input=TextInput(), classes=CLASSES, splits=splits
    )
    return Builtin(NAME, "Film reviews, good or bad (IMDb)", description, reader)


SOURCE = reviews(Reviews(), Splits(train=22_500, validation=2_500, test=25_000))
