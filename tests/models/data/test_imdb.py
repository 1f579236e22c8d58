"""The film reviews, from small archives in the publisher's format."""

import io
import tarfile
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from models.data.builtin.imdb import ARCHIVE, Reviews, reviews
from models.data.dataset import Splits
from models.errors import InvalidInput, Unavailable
from models.fetching import Digest

FILES = {
    f"aclImdb/{part}/{label}/{index}_{9 if label == 'pos' else 2}.txt": f"{part} film {index} is {label}<br />".encode()
    for part in ("train", "test")
    for label in ("pos", "neg")
    for index in range(20)
}
OTHERS = {
    "aclImdb/README": b"read me",
    "aclImdb/train/unsup/0_0.txt": b"nobody rated this",
    "aclImdb/train/pos/../../../../etc/evil_1.txt": b"no",
    "/aclImdb/train/pos/1_9.txt": b"absolute",
}
SPLITS = Splits(train=36, validation=4, test=40)


def archive(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("aclImdb/train/pos/77_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return content.getvalue()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A server with the archive, and the set that is fetched from it."""
    folder = tmp_path / "served"
    folder.mkdir()
    content = archive({**OTHERS, **dict(reversed(FILES.items()))})
    (folder / ARCHIVE).write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        reader = Reviews(
            f"http://127.0.0.1:{http.server_port}/{ARCHIVE}", Digest(md5(content).hexdigest(), "md5")
        )
        try:
            yield folder, reviews(reader, SPLITS)
        finally:
            http.shutdown()
            thread.join()


def told(dataset):
    parts = {part: getattr(dataset, part) for part in ("train", "validation", "test")}
    return {
        part: sorted(
            (text, dataset.description.classes[y]) for text, y in zip(split.texts, split.y, strict=True)
        )
        for part, split in parts.items()
    }


def test_the_archive_is_fetched_once_and_read_without_unpacking(served, tmp_path):
    folder, source = served
    first = source.load(tmp_path / "root")
    (folder / ARCHIVE).unlink()
    assert told(source.load(tmp_path / "root")) == told(first)
    assert [path.name for path in (tmp_path / "root" / "imdb").iterdir()] == [ARCHIVE]
    found = told(first)
    assert all(label in text and part.replace("validation", "train") in text
               for part, rows in found.items() for text, label in rows)  # fmt: skip
    assert {part: len(rows) for part, rows in found.items()} == SPLITS.model_dump()


@pytest.mark.parametrize("folder", ["imdb", "."])
def test_an_unpacked_tree_gives_the_same(served, tmp_path, folder):
    _, source = served
    for name, data in {**FILES, "aclImdb/train/unsup/0_0.txt": b"x"}.items():
        path = tmp_path / "tree" / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert told(source.load(tmp_path / "tree")) == told(source.load(tmp_path / "root"))


def test_an_archive_with_another_hash_is_refused_and_not_kept(served, tmp_path):
    folder, source = served
    (folder / ARCHIVE).write_bytes(archive({**FILES, "aclImdb/train/pos/0_9.txt": b"changed"}))
    with pytest.raises(Unavailable, match="MD5 does not begin with"):
        source.load(tmp_path / "root")
    assert list((tmp_path / "root" / "imdb").iterdir()) == []


def test_without_a_network_the_error_says_where_to_put_the_archive(tmp_path):
    source = reviews(Reviews("http://127.0.0.1:1/a.tar.gz"), SPLITS)
    with pytest.raises(Unavailable, match="folder named 'imdb' in the datasets folder"):
        source.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no archive", "is damaged"),
        (archive(FILES)[:200], "is damaged|hold no reviews"),
        (archive({"else/train/pos/0_9.txt": b"x"}), "hold no reviews"),
        (archive({**FILES, "aclImdb/train/pos/99_9.txt": b"\xff"}), "not a text in UTF-8"),
        (archive({**FILES, "aclImdb/train/pos/99_9.txt": b"x" * 2_000_000}), "has 2000000 bytes"),
    ],
    ids=["text", "cut", "other", "latin", "huge"],
)
def test_other_files_under_the_name_are_refused(tmp_path, content, words):
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        reviews(Reviews("http://127.0.0.1:1/"), SPLITS).load(tmp_path)


def test_another_number_of_reviews_is_not_the_set(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive(dict(list(FILES.items())[3:])))
    with pytest.raises(InvalidInput, match="expected are 36"):
        reviews(Reviews("http://127.0.0.1:1/"), SPLITS).load(tmp_path)
