"""Checkpoints that torchvision publishes: fetched from a server of this test, or from a folder, and kept."""

import hashlib
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import get_weight

from models import tensor_files
from models.catalog import architectures
from models.checkpoints.published import Fetched, Library
from models.errors import CorruptArtifact, NotFound, TandemError, Unavailable
from models.published import imagenet
from models.vit.spec import PUBLISHED

NET = imagenet("Net_Weights.IMAGENET1K_V1")
TENSORS = {"fc.weight": np.arange(3000, dtype=np.float32).reshape(3, 1000), "fc.bias": np.ones(3, np.float32)}
MADE = "torchvision/Net_Weights.IMAGENET1K_V1"


def safetensors_of(tensors, path):
    tensor_files.write(tensors, path, {"format": "pt"})
    data = path.read_bytes()
    path.unlink()
    return data


@pytest.fixture
def shelf(publisher, tmp_path):
    """A server with one file under a name like torchvision's, and a library in front of it."""
    return Shelf(publisher, tmp_path)


class Shelf:
    """The file is one of safetensors, which needs no process to read it, unless another is put there."""

    def __init__(self, publisher, folder):
        self.publisher, self.folder = publisher, folder
        self.told = []
        self.put(safetensors_of(TENSORS, folder / "made"), "safetensors")

    def put(self, data, suffix, name=None):
        """Publish these bytes alone; the name bears the digits of their hash, or of another's."""
        self.data = data
        self.name = name or f"net-{hashlib.sha256(data).hexdigest()[:8]}.{suffix}"
        self.publisher.files = {self.name: data}

    def library(self, offline=None):
        url = self.publisher.url(self.name)
        return Library(self.folder / "cache", offline, self.told.append, locate=lambda reference: url)

    def fetch(self, offline=None):
        return self.library(offline).fetch(NET)

    @property
    def offline(self):
        path = self.folder / "offline"
        path.mkdir(exist_ok=True)
        return path

    @property
    def kept(self):
        return sorted(path.name for path in (self.folder / "cache" / MADE).iterdir())


def assert_kept(found, tensors=TENSORS):
    assert found.tokenizer is None
    kept = tensor_files.read(found.weights)[1]
    assert kept.keys() == tensors.keys()
    assert all(np.array_equal(kept[name], array) for name, array in tensors.items())


# --- from the network ---------------------------------------------------------------------------------------------


def test_a_checkpoint_is_fetched_once(shelf):
    first = shelf.fetch()
    assert_kept(first)
    assert first == Fetched(shelf.folder / "cache" / MADE / "weights.safetensors", None)
    assert shelf.fetch() == first
    shelf.publisher.files.clear()
    assert_kept(shelf.fetch())
    assert shelf.publisher.asked == [(shelf.name, 0)]
    assert shelf.kept == ["complete.json", "weights.safetensors"]
    assert [path.name for path in (shelf.folder / "cache/torchvision").iterdir() if path.is_dir()] == [
        NET.reference
    ]
    assert any("downloading" in text and text.endswith("100 %") for text in shelf.told)


def test_a_file_of_torch_save_is_converted(shelf):
    buffer = io.BytesIO()
    halves = {name: torch.tensor(array).bfloat16() for name, array in TENSORS.items()}
    torch.save({"state_dict": halves, "epoch": 90}, buffer)
    shelf.put(buffer.getvalue(), "pth")
    assert_kept(shelf.fetch(), {name: tensor.float().numpy() for name, tensor in halves.items()})


def test_threads_that_ask_at_once_fetch_it_once(shelf):
    shelf.publisher.pause_s = 0.2
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: shelf.fetch(), range(4)))
    for one in found:
        assert_kept(one)
    assert len(shelf.publisher.asked) == 1


def test_processes_that_ask_at_once_fetch_it_once(shelf):
    code = f"""
from pathlib import Path
from models.checkpoints.published import Library
from models.published import imagenet
url = {shelf.publisher.url(shelf.name)!r}
library = Library(Path({str(shelf.folder / "cache")!r}), None, locate=lambda reference: url)
print(library.fetch(imagenet({NET.reference!r})).weights.stat().st_size)
"""
    shelf.publisher.pause_s = 0.5
    others = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    sizes = {other.communicate()[0] for other in others}
    assert [other.returncode for other in others] == [0, 0]
    assert len(sizes) == len(shelf.publisher.asked) == 1
    assert_kept(shelf.fetch())


@pytest.mark.parametrize("ranges", [True, False], ids=["goes on", "begins again"])
def test_a_broken_connection_is_taken_up_again(shelf, ranges):
    shelf.publisher.breaks_after, shelf.publisher.ranges = 5000, ranges
    with pytest.raises(Unavailable, match="TANDEM_PRETRAINED_DIR") as caught:
        shelf.fetch()
    assert caught.value.specific_code == "download_failed"
    assert_kept(shelf.fetch())
    assert shelf.publisher.asked == [(shelf.name, 0), (shelf.name, 5000)]


def test_a_part_that_is_whole_already_is_not_fetched_again(shelf):
    unfinished = shelf.folder / "cache" / f"{MADE}.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / f"{shelf.name}.part").write_bytes(shelf.data)
    assert_kept(shelf.fetch())
    assert shelf.publisher.asked == [(shelf.name, len(shelf.data))]


def test_a_part_of_something_else_is_thrown_away(shelf):
    unfinished = shelf.folder / "cache" / f"{MADE}.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / f"{shelf.name}.part").write_bytes(b"x" * 100)
    with pytest.raises(Unavailable, match="SHA-256 does not begin with"):
        shelf.fetch()
    assert_kept(shelf.fetch())


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "damaged since"])
def test_a_crash_before_the_conversion_costs_no_second_download(shelf, whole):
    unfinished = shelf.folder / "cache" / f"{MADE}.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / shelf.name).write_bytes(shelf.data if whole else shelf.data[:-1] + b"?")
    assert_kept(shelf.fetch())
    assert len(shelf.publisher.asked) == (0 if whole else 1)


def test_what_has_another_hash_is_refused_and_not_kept(shelf):
    shelf.publisher.damaged.add(shelf.name)
    with pytest.raises(
        Unavailable, match="is not what was published: its SHA-256 does not begin with"
    ) as caught:
        shelf.fetch()
    assert caught.value.specific_code == "download_damaged"
    assert not list((shelf.folder / "cache").rglob("*net-*"))
    shelf.publisher.damaged.clear()
    assert_kept(shelf.fetch())


def test_without_a_network_the_error_says_where_to_put_the_file(shelf):
    shelf.publisher.files.clear()
    with pytest.raises(Unavailable, match="folder that TANDEM_PRETRAINED_DIR names") as caught:
        shelf.fetch()
    assert shelf.name in caught.value.detail
    assert str(shelf.folder) not in caught.value.detail


def test_a_published_file_that_is_none_is_refused(shelf):
    shelf.put(b"an error page", "safetensors")
    with pytest.raises(CorruptArtifact, match=r"net-.*\.safetensors cannot be read") as caught:
        shelf.fetch()
    assert str(shelf.folder) not in caught.value.detail


# --- in the cache -------------------------------------------------------------------------------------------------


def flip(path):
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def shorten(path):
    path.write_bytes(path.read_bytes()[:-1])


def writes(text):
    return lambda path: path.write_text(text)


DAMAGES = {
    "flipped": ("weights.safetensors", flip),
    "cut": ("weights.safetensors", shorten),
    "gone": ("weights.safetensors", Path.unlink),
    "note cut": ("complete.json", shorten),
    "note gone": ("complete.json", Path.unlink),
    "note empty": ("complete.json", writes("{}")),
    "note a list": ("complete.json", writes("[]")),
    "note null": ("complete.json", writes("null")),
    "note of a number": ("complete.json", writes('{"files": 3}')),
    "note of none": ("complete.json", writes('{"files": {}, "made_from": {}}')),
}


@pytest.mark.parametrize(("name", "harm"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_fetched_again(shelf, name, harm):
    harm(shelf.fetch().weights.with_name(name))
    assert_kept(shelf.fetch())
    assert_kept(shelf.fetch())
    assert len(shelf.publisher.asked) == 2


def test_a_damaged_cache_is_not_used_where_nothing_can_be_fetched(shelf):
    flip(shelf.fetch().weights)
    shelf.publisher.files.clear()
    with pytest.raises(Unavailable):
        shelf.fetch()


def test_every_reference_has_a_folder_of_its_own(shelf):
    shelf.fetch()
    shelf.library().fetch(imagenet("Net_Weights.IMAGENET1K_V2"))
    made = {path.name for path in (shelf.folder / "cache/torchvision").iterdir() if path.is_dir()}
    assert made == {"Net_Weights.IMAGENET1K_V1", "Net_Weights.IMAGENET1K_V2"}


# --- from a folder ------------------------------------------------------------------------------------------------


def test_a_folder_takes_the_place_of_the_network(shelf):
    (shelf.offline / shelf.name).write_bytes(shelf.data)
    assert_kept(shelf.fetch(shelf.offline))
    assert_kept(shelf.fetch(shelf.offline))
    assert shelf.publisher.asked == []
    assert (shelf.offline / shelf.name).read_bytes() == shelf.data
    assert len(list(shelf.offline.iterdir())) == 1


def test_a_file_that_is_missing_is_named_and_where_it_belongs(shelf):
    with pytest.raises(NotFound) as caught:
        shelf.fetch(shelf.offline)
    detail = caught.value.detail
    assert detail.startswith(f"{shelf.name} is not in the folder of published checkpoints: put the file, ")
    assert shelf.publisher.url(shelf.name) in detail
    assert "TANDEM_PRETRAINED_DIR" in detail
    assert str(shelf.folder) not in detail
    assert caught.value.specific_code == "checkpoint_missing"


def test_a_folder_that_is_not_there_is_an_empty_one(shelf):
    with pytest.raises(NotFound, match=shelf.name):
        shelf.fetch(shelf.folder / "nowhere")


def test_another_file_under_the_name_is_refused(shelf):
    (shelf.offline / shelf.name).write_bytes(shelf.data[:-1] + b"?")
    with pytest.raises(
        CorruptArtifact, match=f"^{shelf.name} in the folder .* Fetch it again from http"
    ) as caught:
        shelf.fetch(shelf.offline)
    assert str(shelf.folder) not in caught.value.detail


def test_the_cache_is_made_anew_when_the_folder_holds_another_file(shelf):
    """A publisher may replace a file; the name then bears another hash."""
    (shelf.offline / shelf.name).write_bytes(shelf.data)
    assert_kept(shelf.fetch(shelf.offline))
    (shelf.offline / shelf.name).unlink()
    newer = {"fc.bias": np.zeros(3, np.float32)}
    shelf.put(safetensors_of(newer, shelf.folder / "made"), "safetensors")
    (shelf.offline / shelf.name).write_bytes(shelf.data)
    assert_kept(shelf.fetch(shelf.offline), newer)


def test_every_error_is_one_that_a_job_can_end_with(shelf):
    """Whatever lies under a published name, the library raises nothing but the domain's errors."""
    for content in (b"", b"\0" * 64, b"\xff" * 64, shelf.data[:100], shelf.data + b"\0"):
        shelf.put(content, "safetensors")
        with pytest.raises(TandemError):
            shelf.fetch()


# --- what the specs name ------------------------------------------------------------------------------------------


OF_TORCHVISION = {
    one
    for spec in architectures().values()
    for one in (*spec().published(), *PUBLISHED.values())
    if one.library == "torchvision"
}


@pytest.mark.parametrize(
    "one", sorted(OF_TORCHVISION, key=lambda one: one.reference), ids=lambda one: one.reference
)
def test_torchvision_knows_every_checkpoint_that_a_spec_names(one, tmp_path):
    weights = get_weight(one.reference)
    assert one.name == weights.name
    assert (list(one.mean), list(one.std)) == (weights.transforms().mean, weights.transforms().std)
    library = Library(tmp_path, tmp_path / "nothing", locate=lambda reference: get_weight(reference).url)
    with pytest.raises(NotFound, match=r"^[a-z0-9_]+-[0-9a-f]{8}\.pth is not in the folder"):
        library.fetch(one)
