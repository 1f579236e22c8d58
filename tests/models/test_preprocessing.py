"""Request items to raw model input. What decides is the real Pillow and real files in memory."""

import json
from base64 import b64encode
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from models.errors import InvalidInput
from models.preprocessing import ImagePreprocessing, Preprocessing, TablePreprocessing
from models.preprocessing.decoding import MAX_PIXELS, decode


def image_model(height=4, width=6, channels=1):
    return ImagePreprocessing(
        height=height, width=width, channels=channels, mean=(0.5,) * channels, std=(0.25,) * channels
    )


def table_model(*columns):
    columns = columns or ("age", "bmi", "blood pressure")
    n = len(columns)
    return TablePreprocessing(columns=columns, mean=(1.0,) * n, std=(2.0,) * n)


def encoded(image, format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def b64(data):
    return {"image": b64encode(data).decode()}


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def refused(preprocessing, items, pointer, *words):
    with pytest.raises(InvalidInput) as caught:
        preprocessing.batch(items)
    assert caught.value.pointer == pointer
    for word in words:
        assert word in caught.value.detail
    return caught.value


# --- what a model keeps -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preprocessing",
    [
        image_model(channels=3),
        table_model(),
        TablePreprocessing(columns=("a",), mean=(0.1,), std=(3.0,), target_mean=-2.5, target_std=7.0),
    ],
)
def test_preprocessing_survives_json(preprocessing):
    adapter = TypeAdapter(Preprocessing)
    assert adapter.validate_json(adapter.dump_json(preprocessing)) == preprocessing


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.5, 0.5]},
        {"std": [0.0]},
        {"std": [float("inf")]},
        {"mean": [float("nan")]},
        {"channels": 2},
        {"height": 0},
        {"extra": 1},
    ],
    ids=str,
)
def test_preprocessing_that_makes_no_sense_is_refused(change):
    with pytest.raises(ValidationError):
        ImagePreprocessing.model_validate(image_model().model_dump() | change)


def test_target_statistics_come_in_pairs():
    with pytest.raises(ValidationError, match="go together"):
        TablePreprocessing(columns=("a",), mean=(0.0,), std=(1.0,), target_mean=1.0)


def test_normalisation_of_images_is_in_units_of_raw_pixels():
    normalisation = image_model(channels=3).normalisation
    x = np.array([0.0, 127.5, 255.0], np.float32)
    assert np.allclose((x - normalisation.mean) * normalisation.inverse_std, [-2, 0, 2])
    assert normalisation.mean.dtype == normalisation.inverse_std.dtype == np.float32


def test_normalisation_of_tables_is_in_units_of_the_columns():
    normalisation = table_model().normalisation
    assert np.allclose((np.array([1, 3, -1]) - normalisation.mean) * normalisation.inverse_std, [0, 1, -1])


@pytest.mark.parametrize("preprocessing", [image_model(), image_model(channels=3), table_model()])
def test_the_example_is_one_raw_item_and_a_valid_input(preprocessing):
    example = preprocessing.example()
    assert np.array_equal(preprocessing.batch([example, example]), np.stack([example, example]))


# --- pixels as numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_of_the_models_size_pass_unchanged(channels):
    x = random_pixels(5, 4, 6, channels)
    assert np.array_equal(image_model(channels=channels).batch(x.tolist()), x)
    assert np.array_equal(image_model(channels=channels).batch(x.astype(float).tolist()), x)


def test_a_height_by_width_array_is_one_channel():
    x = random_pixels(2, 4, 6)
    assert np.array_equal(image_model().batch(x.tolist()), x[..., None])


def test_fractions_are_rounded():
    assert image_model(1, 3).batch([[[0.4, 0.6, 254.7]]]).ravel().tolist() == [0, 1, 255]


def test_grey_pixels_fill_three_channels_and_colour_becomes_grey():
    grey = random_pixels(1, 4, 6)
    assert np.array_equal(image_model(channels=3).batch(grey.tolist()), np.repeat(grey[..., None], 3, axis=3))
    colour = random_pixels(1, 4, 6, 3)
    expected = np.asarray(Image.fromarray(colour[0]).convert("L"))
    assert np.array_equal(image_model().batch(colour.tolist())[0, ..., 0], expected)


def test_pixels_of_another_size_are_resized_bilinearly():
    big = random_pixels(1, 9, 11, 3)
    expected = np.asarray(Image.fromarray(big[0]).resize((6, 4), Image.Resampling.BILINEAR))
    assert np.array_equal(image_model(channels=3).batch(big.tolist())[0], expected)


def test_one_batch_may_mix_sizes_and_forms():
    model = image_model(channels=3)
    exact, grey, big = random_pixels(4, 6, 3), random_pixels(4, 6), random_pixels(8, 12, 3)
    png = encoded(Image.fromarray(exact))
    batch = model.batch([exact.tolist(), grey.tolist(), big.tolist(), png, b64(png)])
    assert batch.shape == (5, 4, 6, 3)
    assert batch.dtype == np.uint8
    for index in (0, 3, 4):
        assert np.array_equal(batch[index], exact)
    alone = [model.batch([item])[0] for item in (grey.tolist(), big.tolist())]
    assert np.array_equal(batch[1:3], alone)


GOOD = random_pixels(4, 6).tolist()


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ([[1, 2], [3]], "ragged"),
        ([[1, 2], 3], "ragged"),
        ([], "ragged or empty"),
        ([[]], "ragged or empty"),
        ([[[]]], "ragged or empty"),
        ([1, 2, 3], "shape 3"),
        ([[[1, 2]]], "1 or 3 channels"),
        ([[[[1]]]], "shape 1x1x1x1"),
        ([[[[[1]]]]], "nested 5 deep"),
        ([[True, 1]], "a boolean"),
        ([[1, "2"]], "a text"),
        ([[1, None]], "null"),
        ([[1, -1]], "-1"),
        ([[1, 256]], "256"),
        ([[1.0, 255.5]], "255.5"),
        ([[0.0, 0.5]], "Multiply them by 255"),
        ([[float("nan")]], "nan"),
        ([[float("inf")]], "inf"),
        ([[10**400, 1.5]], "far larger"),
        ([[-(10**400)]], "far larger"),
        ([[1, "x" * 1_000_000]], "a text"),
        ("just text", "a text"),
        (5, "a number"),
        (None, "null"),
        (True, "a boolean"),
        ({}, "base64"),
        ({"image": 5}, "base64"),
        ({"image": "iVBO", "size": 3}, "'size'"),
        ({"imgae": "iVBO"}, "Did you mean 'image'"),
        ({"image": "not base64!"}, "base64"),
        ({"image": "aGVsbG8"}, "base64"),
        ({"image": "aGVs\nbG8="}, "base64"),
        ({"image": "é"}, "base64"),
        ({"image": "\ud800"}, "base64"),
        ({"image": "https://example.org/cat.png"}, "not fetched"),
        ({"image": "data:image/png,abc"}, "base64"),
        ({"image": "aGVsbG8="}, "not a readable image"),
        ({"image": ""}, "not a readable image"),
        (b"", "not a readable image"),
        (b"GIF89a", "image"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_image_is_named_by_its_place_and_fault(item, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        image_model().batch([GOOD, GOOD, item])
    assert caught.value.pointer in {
        "/inputs/2",
        *(f"/inputs/2/{name}" for name in ("image", "size", "imgae")),
    }
    assert caught.value.problems[0].detail == caught.value.detail


@pytest.mark.parametrize("preprocessing", [image_model(), table_model()])
def test_no_inputs_at_all_is_refused(preprocessing):
    refused(preprocessing, [], "/inputs", "at least one")


# --- encoded images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "WEBP"])
def test_a_lossless_file_gives_its_own_pixels(format):
    x = random_pixels(4, 6)
    options = {"lossless": True} if format == "WEBP" else {}
    image = Image.fromarray(x).convert("RGB" if format == "WEBP" else "L")
    assert np.array_equal(image_model().batch([encoded(image, format, **options)])[0, ..., 0], x)


def test_a_jpeg_gives_what_pillow_decodes():
    data = encoded(Image.fromarray(random_pixels(4, 6, 3)), "JPEG", quality=95)
    expected = np.asarray(Image.open(BytesIO(data)))
    assert np.array_equal(image_model(channels=3).batch([data])[0], expected)


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "DATA:image/png;name=a.png;BASE64,"])
def test_base64_is_taken_with_and_without_a_data_url(prefix):
    x = random_pixels(4, 6)
    item = {"image": prefix + b64(encoded(Image.fromarray(x)))["image"]}
    assert np.array_equal(image_model().batch([item])[0, ..., 0], x)


def test_an_encoded_image_of_another_size_is_resized_bilinearly():
    x = random_pixels(20, 30, 3)
    expected = np.asarray(Image.fromarray(x).resize((6, 4), Image.Resampling.BILINEAR))
    assert np.array_equal(image_model(channels=3).batch([encoded(Image.fromarray(x))])[0], expected)


def test_only_the_first_frame_of_an_animation_counts():
    first, second = Image.new("L", (6, 4), 10), Image.new("L", (6, 4), 200)
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert (image_model().batch([data]) == 10).all()


def test_sixteen_bits_are_scaled_to_eight():
    x = np.array([[0, 257, 32896, 65535, 128, 129]] * 4, dtype=np.uint16)
    assert image_model().batch([encoded(Image.fromarray(x))])[0, 0, :, 0].tolist() == [0, 1, 128, 255, 0, 1]


def test_transparency_is_laid_over_white():
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[:, :3] = (200, 0, 0, 255)
    batch = image_model(channels=3).batch([encoded(Image.fromarray(rgba))])
    assert (batch[0, :, :3] == (200, 0, 0)).all()
    assert (batch[0, :, 3:] == 255).all()


def test_a_palette_with_a_transparent_colour_is_laid_over_white():
    image = Image.new("P", (6, 4), 1)
    image.putpalette([9, 9, 9, 40, 50, 60])
    image.putpixel((0, 0), 0)
    batch = image_model(channels=3).batch([encoded(image, transparency=0)])
    assert batch[0, 0, 0].tolist() == [255, 255, 255]
    assert batch[0, 1, 1].tolist() == [40, 50, 60]


@pytest.mark.parametrize(("mode", "colour"), [("1", 1), ("LA", (255, 255)), ("CMYK", (0, 0, 0, 0))])
def test_other_colour_modes_are_converted(mode, colour):
    data = encoded(Image.new(mode, (6, 4), colour), "JPEG" if mode == "CMYK" else "PNG")
    assert (image_model().batch([data]) >= 254).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright_as_its_exif_says(orientation):
    upright = Image.fromarray(random_pixels(4, 6))
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, exif=exif)
    assert np.array_equal(image_model().batch([data])[0, ..., 0], np.asarray(upright))


def test_a_photo_with_broken_exif_is_shown_as_stored():
    x = random_pixels(4, 6)
    data = encoded(Image.fromarray(x), exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffbroken")
    assert np.array_equal(image_model().batch([data])[0, ..., 0], x)


def bmp_header(width, height):
    header = b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += (40).to_bytes(4, "little") + width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return header + (1).to_bytes(2, "little") + (24).to_bytes(2, "little") + bytes(24)


@pytest.mark.parametrize("side", [7072, 10_000, 60_000])
def test_an_image_of_too_many_pixels_is_refused_from_its_header(side):
    assert side * side > MAX_PIXELS
    refused(image_model(), [bmp_header(side, side)], "/inputs/0", "million pixels")


def test_a_file_cut_short_is_refused():
    data = encoded(Image.fromarray(random_pixels(40, 60, 3)))
    refused(image_model(), [data[: len(data) // 2]], "/inputs/0", "damaged")


@pytest.mark.parametrize("format", ["TIFF", "PPM", "ICO"])
def test_formats_that_are_not_listed_are_not_opened(format):
    data = encoded(Image.fromarray(random_pixels(16, 16)), format)
    refused(image_model(), [data], "/inputs/0", "PNG, JPEG")


SEEDS = [
    encoded(Image.fromarray(random_pixels(8, 8, 3)), "PNG"),
    encoded(Image.fromarray(random_pixels(8, 8, 3)), "JPEG"),
    encoded(Image.fromarray(random_pixels(8, 8, 3)), "WEBP"),
    encoded(Image.fromarray(random_pixels(8, 8)), "BMP"),
    encoded(Image.fromarray(random_pixels(8, 8)), "GIF"),
    encoded(Image.new("P", (8, 8)), "PNG", transparency=0),
    encoded(Image.fromarray(random_pixels(8, 8).astype(np.uint16)), "PNG"),
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    st.integers(0, 10**6),
)
def test_damaged_image_files_decode_or_are_refused(data, changes, keep):
    damaged = bytearray(data[: keep % (2 * len(data)) + 1])
    for place, value in changes:
        damaged[place % len(damaged)] = value
    try:
        assert decode(bytes(damaged), height=4, width=6, channels=3).shape == (4, 6, 3)
    except InvalidInput as error:
        assert error.detail.endswith(".")


# --- rows ---------------------------------------------------------------------------------------------------------


def test_rows_come_as_lists_or_by_column_name_in_any_order():
    model = table_model()
    batch = model.batch([[1, 2.5, -3], {"blood pressure": -3, "age": 1, "bmi": 2.5}])
    assert batch.dtype == np.float32
    assert batch.tolist() == [[1, 2.5, -3]] * 2


def test_rows_of_a_single_column_are_rows():
    assert table_model("a").batch([[1], {"a": 2}]).tolist() == [[1], [2]]


@pytest.mark.parametrize(
    ("item", "pointer", "words"),
    [
        ([1, 2], "/inputs/1", "2 value(s); the model takes 3: age, bmi, blood pressure"),
        ([1, 2, 3, 4], "/inputs/1", "4 value(s)"),
        ([1, 2, True], "/inputs/1/2", "'blood pressure' is not a number"),
        ([1, "2", 3], "/inputs/1/1", "'bmi' is not a number"),
        ([1, None, 3], "/inputs/1/1", "null"),
        ([1, [2], 3], "/inputs/1/1", "not a number"),
        ([1, float("nan"), 3], "/inputs/1/1", "NaN"),
        ([1, float("-inf"), 3], "/inputs/1/1", "too large"),
        ([1, 1e39, 3], "/inputs/1/1", "too large"),
        ([1, 10**400, 3], "/inputs/1/1", "too large"),
        ("1,2,3", "/inputs/1", "rows"),
        (7, "/inputs/1", "rows"),
        ({"age": 1, "bmi": 2}, "/inputs/1", "blood pressure"),
        ({"age": 1, "bim": 2, "blood pressure": 3}, "/inputs/1/bim", "Did you mean 'bmi'"),
        ({"age": 1, "bmi": 2, "blood pressure": 3, "x/y~z": 4}, "/inputs/1/x~1y~0z", "Unknown column"),
        ({"age": "old", "bmi": 2, "blood pressure": 3}, "/inputs/1/age", "not a number"),
        ({}, "/inputs/1", "age, bmi, blood pressure"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_bad_row_is_named_by_its_place_and_fault(item, pointer, words):
    refused(table_model(), [[1, 2, 3], item], pointer, words)


def test_the_largest_float32_passes_and_the_next_number_does_not():
    largest = float(np.finfo(np.float32).max)
    assert table_model("a").batch([[largest], [-largest]]).tolist() == [[largest], [-largest]]
    refused(table_model("a"), [[np.nextafter(largest, np.inf).item()]], "/inputs/0/0", "too large")


def test_a_wide_table_does_not_list_all_its_columns():
    model = table_model(*(f"column{number}" for number in range(2000)))
    error = refused(model, [{"nothing": 1}], "/inputs/0/nothing")
    assert len(refused(model, [[1]], "/inputs/0").detail) < 300
    assert len(error.detail) < 300


# --- anything at all ----------------------------------------------------------------------------------------------

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-2, 300)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["image", "age", "bmi", "blood pressure", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None)
@given(st.lists(anything, max_size=4))
@pytest.mark.parametrize("preprocessing", [image_model(), image_model(channels=3), table_model()])
def test_any_items_at_all_are_taken_or_refused_by_name(preprocessing, items):
    try:
        x = preprocessing.batch(items)
    except InvalidInput as error:
        assert error.pointer.startswith("/inputs")
    else:
        assert x.shape == (len(items), *preprocessing.example().shape)
        assert x.dtype == preprocessing.example().dtype
        assert np.isfinite(x).all()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
        min_size=1,
    )
)
def test_any_float32_rows_pass_through_json_unchanged(rows):
    through_json = json.loads(json.dumps(rows))
    assert np.array_equal(table_model().batch(through_json), np.array(rows, np.float32))
