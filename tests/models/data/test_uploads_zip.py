"""Images in a zip archive of class folders."""

import stat
import struct
import zipfile
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from models.data.uploads import Limits, UploadOptions, ingest
from models.data.uploads import zip as images
from models.errors import InvalidInput

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def encoded(colour=(255, 0, 0), size=(12, 10), mode="RGB", kind="PNG", **options):
    file = BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, format=kind, **options)
    return file.getvalue()


def noise():
    file = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


NOISE = noise()


def files(folder="", count=12, **options):
    return {
        f"{folder}{name}/{index}.png": encoded(colour, **options)
        for name, colour in COLOURS.items()
        for index in range(count)
    }


@pytest.fixture
def upload(tmp_path):
    def upload(content, **options):
        path = tmp_path / "d.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        return ingest(path, path.name, UploadOptions(**{"task": "image-classification", **options}))

    return upload


def colours(dataset, split):
    part = getattr(dataset, split)
    return {
        (dataset.description.classes[y], tuple(x[0, 0].tolist())) for x, y in zip(part.x, part.y, strict=True)
    }


def test_folders_are_classes(upload):
    dataset = upload(files())
    assert dataset.description.classes == ("blue", "red")
    assert dataset.description.input.shape == (10, 12, 3)
    assert sum(dataset.description.splits.model_dump().values()) == 24
    assert colours(dataset, "train") == set(COLOURS.items())
    assert np.array(dataset.description.report.class_counts.train).sum() == dataset.description.splits.train


@pytest.mark.parametrize("top", ["", "photos/", "a/b/"])
@pytest.mark.parametrize("name", ["val", "validation"])
def test_splits_may_stand_over_the_classes(upload, top, name):
    content = {**files(f"{top}train/", 5), **files(f"{top}test/", 3), **files(f"{top}{name}/", 2)}
    dataset = upload(content)
    assert dataset.description.splits.model_dump() == {"train": 10, "validation": 4, "test": 6}
    assert colours(dataset, "test") == set(COLOURS.items())


def test_the_fractions_are_kept(upload):
    dataset = upload(files("", 10), test_fraction=0.5, validation_fraction=0.3)
    assert dataset.description.splits.model_dump() == {"train": 7, "validation": 3, "test": 10}


def test_what_systems_add_is_no_image(upload):
    junk = {
        "__MACOSX/blue/._0.png": b"x",
        "blue/.DS_Store": b"x",
        "red/Thumbs.db": b"x",
        "blue/": b"",
        ".git/a": b"",
    }
    assert sum(upload({**files(), **junk}).description.splits.model_dump().values()) == 24


def test_names_may_begin_with_the_folder_itself(upload):
    content = {"./": b"", **files("./"), "./.DS_Store": b"x"}
    assert upload(content).description.classes == ("blue", "red")


def test_more_pixels_than_a_disk_holds_are_refused_before_any_is_decoded(upload):
    with pytest.raises(
        InvalidInput, match="24 images of 4096 by 4096 pixels take 1207959552 bytes"
    ) as caught:
        upload(files(), size=(4096, 4096), limits=Limits(pixel_bytes=1 << 30))
    assert caught.value.pointer == "/size"


def test_images_of_many_sizes_get_the_usual_one(upload):
    content = files(count=3, size=(30, 20)) | {"red/large.png": encoded(size=(500, 400))}
    assert upload(content).description.input.shape == (20, 30, 3)
    huge = {**files(count=3, size=(500, 700)), "red/x.png": encoded(size=(499, 700))}
    assert upload(huge).description.input.shape == (images.LARGEST_DEFAULT, images.LARGEST_DEFAULT, 3)
    assert upload(content, size=(8, 9)).description.input.shape == (8, 9, 3)


@pytest.mark.parametrize("policy", ["stretch", "crop", "pad"])
def test_the_policy_goes_with_the_models_preprocessing(upload, policy):
    dataset = upload(files(size=(40, 20)), size=(10, 10), resize=policy)
    assert dataset.preprocessing.resize == policy
    corner = tuple(dataset.train.x[0, 0, 0].tolist())
    assert (corner == (0, 0, 0)) == (policy == "pad")
    item = encoded(COLOURS["red"], size=(40, 20))
    red = dataset.train.x[dataset.train.y == 1][0]
    np.testing.assert_array_equal(dataset.preprocessing.batch([item])[0], red)


def test_grey_images_have_one_channel(upload):
    assert upload(files(mode="L")).description.input.channels == 1
    assert upload(files(mode="L"), channels=3).description.input.channels == 3
    assert upload(files(), channels=1).description.input.channels == 1


def test_modes_are_not_mixed_unasked(upload):
    content = {**files(), "red/odd.png": encoded(mode="L")}
    with pytest.raises(InvalidInput, match=r"'red/odd.png' is grey.*channels=3"):
        upload(content)
    assert upload(content, channels=3).description.input.channels == 3


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK"])
def test_other_modes_are_colours(upload, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert upload(files(mode=mode, kind=kind)).description.input.channels == 3


def test_large_photos_are_decoded_small_and_look_the_same(upload):
    wave = (np.sin(np.linspace(0, 9, 1600))[None, :, None] * 100 + 128).astype(np.uint8)
    photo = Image.fromarray(np.broadcast_to(wave, (1200, 1600, 3)).copy())
    file = BytesIO()
    photo.save(file, "JPEG", quality=95)
    dataset = upload({**files(), "red/photo.jpg": file.getvalue()}, size=(60, 80))
    exact = np.asarray(photo.resize((80, 60), Image.Resampling.BILINEAR), np.int16)
    every = np.concatenate([getattr(dataset, name).x for name in ("train", "validation", "test")]).astype(
        np.int16
    )
    assert np.abs(every - exact).mean(axis=(1, 2, 3)).min() < 2


def test_what_is_large_lies_in_a_nameless_file(upload, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "LARGE_BYTES", 100)
    folder = tmp_path / "work"
    folder.mkdir()
    dataset = upload(files(), folder=folder)
    assert colours(dataset, "train") == set(COLOURS.items())
    assert list(folder.iterdir()) == []


def wide_png(width):
    """A PNG that claims to be this wide and one pixel high."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(b"\0" * (3 * width + 1)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"red/x.png": b"no image"}, "'red/x.png': This is not a readable image"),
        ({"red/x.png": NOISE[: len(NOISE) // 2]}, "'red/x.png': The image is damaged"),
        ({"red/x.png": b""}, "'red/x.png': "),
        ({"red/x.png": wide_png(1_000_000)}, "'red/x.png': The image is 1000000 pixels wide"),
        ({"../red/x.png": encoded()}, "leads out of the archive"),
        ({"red/../../x.png": encoded()}, "leads out of the archive"),
        ({"/red/x.png": encoded()}, "leads out of the archive"),
        ({"red\\x.png": encoded()}, "leads out of the archive"),
        ({"C:/red/x.png": encoded()}, "leads out of the archive"),
        ({"x.png": encoded()}, "'x.png' is not in a class folder"),
        ({"red/deep/er/x.png": encoded()}, "is not in a class folder"),
        ({"train/red/x.png": encoded()}, "lies at another depth"),
        ({"green/": b""}, "'green/' is a class folder without images"),
        ({"gr\x07een/x.png": encoded()}, "not printable"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_a_bad_archive_is_refused_by_the_files_name(upload, extra, words):
    with pytest.raises(InvalidInput, match=words.replace("\\", r"\\")) as caught:
        upload({**files(), **extra})
    assert caught.value.pointer == "/file"
    assert len(caught.value.detail) < 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "holds no files"),
        ({f"red/{index}.png": encoded() for index in range(9)}, "single class"),
        (files("test/"), "none called 'train'"),
        ({**files("train/"), "test/green/x.png": encoded()}, "No training row has class 'green'"),
    ],
)
def test_an_archive_that_cannot_train_is_refused(upload, content, words):
    with pytest.raises(InvalidInput, match=words):
        upload(content)


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"task": "tabular-classification"}, "/task"),
        ({"target": "label"}, "/target"),
        ({"columns": {"a": "ignore"}}, "/columns"),
    ],
)
def test_options_of_other_files_are_refused(upload, options, pointer):
    with pytest.raises(InvalidInput) as caught:
        upload(files(), **options)
    assert caught.value.pointer == pointer


def test_links_passwords_and_twins_are_refused(tmp_path):
    path = tmp_path / "d.zip"

    def refused(words):
        with pytest.raises(InvalidInput, match=words):
            ingest(path, path.name, UploadOptions("image-classification"))

    link = zipfile.ZipInfo("red/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files().items():
            archive.writestr(name, data)
        archive.writestr(link, "/etc/passwd")
    refused("'red/link.png' is a link")

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("red/x.png", encoded())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("red/x.png", encoded())
    refused("is in the archive twice")

    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("red/x.png", encoded())
    refused("compressed in a way that is not read")

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("red/x.png", encoded())
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    refused("is encrypted")


def test_bombs_and_damaged_archives_are_refused(upload, tmp_path):
    with pytest.raises(InvalidInput, match="unpacks to"):
        upload({**files(), "red/zeros.png": b"\0" * 5_000_000}, limits=Limits(expanded_bytes=1_000_000))
    path = tmp_path / "e.zip"
    path.write_bytes(b"PK\x03\x04 nothing else")
    with pytest.raises(InvalidInput, match="not a readable zip"):
        ingest(path, path.name, UploadOptions("image-classification"))


def test_a_file_whose_bytes_were_changed_is_named(tmp_path):
    path = tmp_path / "d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files().items():
            archive.writestr(name, data)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"'blue/0.png' is damaged in the archive"):
        ingest(path, path.name, UploadOptions("image-classification"))
