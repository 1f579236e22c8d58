"""The built-in datasets. Files in the publishers' formats are made small here; torchvision's downloaders fetch them
from a server of this test."""

import gzip
import hashlib
import io
import pickle
import socket
import subprocess
import sys
import tarfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from models.data.builtin import BUILTIN
from models.data.builtin.cifar import Layout, cifar_images
from models.data.builtin.idx import idx_images
from models.data.dataset import Splits
from models.errors import InvalidInput, Unavailable

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SMALL = Splits(train=36, validation=4, test=10)
CLASSES = tuple("0123456789")

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
LABELS = (np.arange(50) % 10).astype(np.uint8)
PARTS = {"train": slice(0, 40), "t10k": slice(40, 50)}


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def idx_files(pixels=PIXELS, labels=LABELS):
    for part, rows in PARTS.items():
        yield f"{part}-images-idx3-ubyte", idx(pixels[rows])
        yield f"{part}-labels-idx1-ubyte", idx(labels[rows])


def write_idx(folder, *, gzipped, **arrays):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in idx_files(**arrays):
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        else:
            (folder / name).write_bytes(data)


def small_mnist(name="mnist", torchvision_name="MNIST", classes=CLASSES, splits=SMALL):
    return idx_images(name, "Small", torchvision_name=torchvision_name, classes=classes, splits=splits)


# --- what is known beforehand -------------------------------------------------------------------------------------


def test_the_built_in_sets_are_the_ones_that_the_api_names():
    assert list(BUILTIN) == ["digits", "diabetes", "mnist", "fashion-mnist", "cifar10", "cifar100", "imdb"]


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_set_is_fully_described_before_it_is_read(name):
    source = BUILTIN[name]
    assert source.name == name
    assert source.title
    if source.description.classes is not None:
        assert len(set(source.description.classes)) == len(source.description.classes)
        assert source.description.signature.outputs == {"cifar100": 100, "imdb": 2}.get(name, 10)


def test_describing_the_sets_imports_no_framework():
    code = "import sys, models.data.builtin; print({'torch', 'torchvision', 'jax', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_cifar100_names_its_classes_in_the_published_order():
    classes = BUILTIN["cifar100"].description.classes
    assert list(classes) == sorted(classes)
    assert (classes[0], classes[11], classes[58], classes[99]) == ("apple", "boy", "pickup_truck", "worm")


# --- inside scikit-learn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_sets_inside_scikit_learn_are_as_described(name, tmp_path):
    dataset = BUILTIN[name].load(tmp_path)
    assert dataset.description == BUILTIN[name].description
    assert list(tmp_path.iterdir()) == []


def test_digits_are_pictures_from_black_to_white(tmp_path):
    dataset = BUILTIN["digits"].load(tmp_path)
    assert dataset.train.x.dtype == np.uint8
    assert (dataset.train.x.min(), dataset.train.x.max()) == (0, 255)
    assert set(np.unique(dataset.train.x)) <= {round(value * 255 / 16) for value in range(17)}
    for split in (dataset.train, dataset.validation, dataset.test):
        assert len(np.unique(split.y)) == 10
    assert np.isclose(dataset.train.x.mean() / 255, dataset.preprocessing.mean[0], rtol=1e-12)


def test_diabetes_keeps_its_own_units(tmp_path):
    dataset = BUILTIN["diabetes"].load(tmp_path)
    age = dataset.train.x[:, 0]
    assert 18 < age.min() < age.max() < 80
    assert 25 <= dataset.train.y.min() < dataset.train.y.max() <= 346
    assert np.isclose(dataset.preprocessing.target_mean, dataset.train.y.mean(dtype=np.float64), rtol=1e-9)


# --- IDX files in a folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("folder", ["MNIST/raw", "mnist", "."])
def test_idx_files_are_found_where_people_put_them(tmp_path, folder, gzipped):
    root = tmp_path / "mnist"
    write_idx(root / folder, gzipped=gzipped)
    dataset = small_mnist().load(root)
    assert np.array_equal(dataset.test.x[..., 0], PIXELS[40:])
    assert np.array_equal(dataset.test.y, LABELS[40:])
    rows = np.concatenate([dataset.train.x, dataset.validation.x])[..., 0]
    assert sorted(map(bytes, rows)) == sorted(map(bytes, PIXELS[:40]))


def test_files_of_another_number_of_images_are_refused(tmp_path):
    write_idx(tmp_path / "mnist", gzipped=True)
    with pytest.raises(InvalidInput, match=r"36 .* expected are 54000") as caught:
        BUILTIN["mnist"].load(tmp_path)
    assert caught.value.pointer == "/dataset"


IMAGES, LABEL_FILE = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (IMAGES, b"", "not an IDX file"),
        (IMAGES, b"PK\x03\x04 something else", "not an IDX file"),
        (IMAGES, idx(PIXELS)[:-1], "does not hold"),
        (IMAGES, idx(PIXELS) + b"x", "does not hold"),
        (IMAGES, bytes((0, 0, 8, 3)) + b"\xff" * 12, "claims to hold"),
        (IMAGES, bytes((0, 0, 13, 3)) + b"\0" * 12, "not an IDX file"),
        (IMAGES, idx(PIXELS[:39]), "do not belong together"),
        (IMAGES, idx(PIXELS[:0]), "do not belong together"),
        (LABEL_FILE, idx(LABELS[:40] + 9), "do not belong together"),
        (LABEL_FILE, None, "no file train-labels"),
        (f"{IMAGES}.gz", b"not gzip", "damaged"),
        (f"{IMAGES}.gz", gzip.compress(idx(PIXELS[:40]))[:-9], "damaged"),
        (f"{IMAGES}.gz", gzip.compress(idx(PIXELS[:40]))[:100] + b"\0" * 900, "damaged"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, name, content, words):
    folder = tmp_path / "mnist"
    write_idx(folder, gzipped=False)
    if name.endswith(".gz"):
        (folder / name.removesuffix(".gz")).unlink()
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        small_mnist().load(tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
@pytest.mark.parametrize("root", [DEBIAN, DEBIAN.parent], ids=str)
def test_debians_fashion_mnist_is_the_described_set(root):
    dataset = BUILTIN["fashion-mnist"].load(root)
    # The statistics that practitioners quote for Fashion-MNIST's 60,000 training images; ours are of 54,000 of them.
    assert np.isclose(dataset.preprocessing.mean[0], 0.2860, atol=5e-4)
    assert np.isclose(dataset.preprocessing.std[0], 0.3530, atol=5e-4)
    assert np.bincount(dataset.train.y).tolist() == [5400] * 10
    assert np.bincount(dataset.test.y).tolist() == [1000] * 10
    assert dataset.test.y[:5].tolist() == [9, 2, 1, 1, 6]  # ankle boot, pullover, two trousers, shirt


# --- CIFAR's binary version in a folder ---------------------------------------------------------------------------

COLOUR = np.random.default_rng(1).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)


def layout(label_bytes):
    return Layout(
        torchvision_name="CIFAR10",
        folder="cifar-10-batches-bin",
        train=("data_batch_1.bin", "data_batch_2.bin"),
        test=("test_batch.bin",),
        label_bytes=label_bytes,
    )


def small_cifar(label_bytes=1):
    return cifar_images("cifar10", "Small", layout=layout(label_bytes), classes=CLASSES, splits=SMALL)


def records(rows, label_bytes):
    planes = COLOUR[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
    labels = [np.full(len(planes), 99, np.uint8)] * (label_bytes - 1) + [LABELS[rows]]
    return np.concatenate([np.stack(labels, axis=1), planes], axis=1).tobytes()


def write_cifar(folder, label_bytes=1):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data_batch_1.bin").write_bytes(records(slice(0, 15), label_bytes))
    (folder / "data_batch_2.bin").write_bytes(records(slice(15, 40), label_bytes))
    (folder / "test_batch.bin").write_bytes(records(slice(40, 50), label_bytes))


@pytest.mark.parametrize("label_bytes", [1, 2])
@pytest.mark.parametrize("folder", ["cifar-10-batches-bin", "cifar10", "cifar10/cifar-10-batches-bin"])
def test_cifars_binary_version_is_read_with_its_fine_labels(tmp_path, folder, label_bytes):
    write_cifar(tmp_path / folder, label_bytes)
    dataset = small_cifar(label_bytes).load(tmp_path)
    assert np.array_equal(dataset.test.x, COLOUR[40:])
    assert np.array_equal(dataset.test.y, LABELS[40:])
    assert len(dataset.preprocessing.mean) == 3


@pytest.mark.parametrize("content", [b"", b"\0" * 3072, b"\0" * 6145, b"\x0b" * 3073, None])
def test_damaged_cifar_files_are_refused(tmp_path, content):
    folder = tmp_path / "cifar10"
    write_cifar(folder)
    if content is None:
        (folder / "test_batch.bin").unlink()
    else:
        (folder / "test_batch.bin").write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        small_cifar().load(tmp_path)
    assert str(tmp_path) not in caught.value.detail


# --- torchvision's downloaders, from a server of our own ----------------------------------------------------------


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield folder, f"http://127.0.0.1:{http.server_port}/"
        finally:
            http.shutdown()
            thread.join()


def md5(data):
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def served_mnist(server, monkeypatch):
    """torchvision's MNIST, pointed at small files: the folder they are served from."""
    from torchvision.datasets import MNIST

    folder, address = server
    files = {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in idx_files()}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    monkeypatch.setattr(MNIST, "mirrors", [address])
    monkeypatch.setattr(MNIST, "resources", [(name, md5(data)) for name, data in files.items()])
    return folder


def test_mnist_is_downloaded_once(served_mnist, tmp_path):
    root = tmp_path / "root"
    first = small_mnist().load(root)
    assert np.array_equal(first.test.x[..., 0], PIXELS[40:])
    for file in served_mnist.iterdir():
        file.unlink()
    second = small_mnist().load(root)
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.train.y, second.train.y)


def test_a_download_with_another_hash_is_refused(served_mnist, tmp_path):
    name = "t10k-labels-idx1-ubyte.gz"
    (served_mnist / name).write_bytes(gzip.compress(idx(LABELS[40:][::-1].copy())))
    with pytest.raises(Unavailable, match="could not be downloaded"):
        small_mnist().load(tmp_path / "root")


@pytest.fixture
def no_network(monkeypatch):
    """torchvision's MNIST, pointed at a port that nothing listens on."""
    from torchvision.datasets import MNIST

    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    monkeypatch.setattr(MNIST, "mirrors", [address])


@pytest.mark.usefixtures("no_network")
def test_without_files_and_network_the_error_says_where_to_put_them(tmp_path):
    with pytest.raises(Unavailable, match="folder named 'mnist'") as caught:
        small_mnist().load(tmp_path / "root")
    assert caught.value.pointer == "/dataset"
    assert str(tmp_path) not in caught.value.detail


@pytest.mark.usefixtures("no_network")
def test_files_right_in_a_folder_of_another_name_are_not_taken_for_mnist(tmp_path):
    write_idx(tmp_path / "fashion-mnist", gzipped=True)  # the same file names, other pictures
    with pytest.raises(Unavailable):
        small_mnist().load(tmp_path / "fashion-mnist")


def test_cifar_is_downloaded_and_checked_by_torchvision(server, monkeypatch, tmp_path):
    from torchvision.datasets import CIFAR10

    folder, address = server
    batches = {
        name: pickle.dumps({"data": planes(rows), "labels": LABELS[rows].tolist()})
        for name, rows in (("data_batch_1", slice(0, 40)), ("test_batch", slice(40, 50)))
    }
    batches["batches.meta"] = pickle.dumps({"label_names": list(CLASSES)})
    archive = tar_of({f"cifar-10-batches-py/{name}": data for name, data in batches.items()})
    (folder / "cifar.tar.gz").write_bytes(archive)
    sums = {name: md5(data) for name, data in batches.items()}
    monkeypatch.setattr(CIFAR10, "url", f"{address}cifar.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5(archive))
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})

    dataset = small_cifar().load(tmp_path / "root")
    assert np.array_equal(dataset.test.x, COLOUR[40:])
    assert np.array_equal(dataset.test.y, LABELS[40:])


def planes(rows):
    return COLOUR[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)


def tar_of(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
