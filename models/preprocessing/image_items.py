"""Items of a prediction request, turned into one batch of pixels: base64, encoded bytes, nested arrays.

Shape suffixes: B batch, H height, W width, C channels.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Sequence
from itertools import chain

import numpy as np
from PIL import Image

from models.errors import InvalidInput
from models.preprocessing.decoding import decode, resize
from models.preprocessing.fields import check_only
from models.preprocessing.options import Resize
from models.signature import ImageInput

_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_HOW = (
    'Send {"image": "<base64>"} or a nested array of pixels, [height][width] or [height][width][channels], '
    "0 to 255."
)


def image_batch(items: Sequence[object], size: ImageInput, policy: Resize) -> np.ndarray:
    """The items as raw model input, uint8 [B, H, W, C] of the size that `size` says; `policy` says how others get it.

    Pixel arrays of one shape are converted together; anything else one by one.

    Raises:
        InvalidInput: with the pointer of the first bad item, `/inputs/<i>`.
    """
    if not items:
        raise InvalidInput("Send at least one input.", pointer="/inputs")
    pixels = pixel_array(items)
    if pixels is not None and pixels.ndim in (3, 4) and _fits(pixels.shape[1:]):
        return _conform(pixels, size, policy)
    return np.concatenate([_one(item, f"/inputs/{index}", size, policy) for index, item in enumerate(items)])


def pixel_array(items: Sequence[object]) -> np.ndarray | None:
    """Nested lists of numbers from 0 to 255 as uint8 of the same shape; None if they are anything else.

    Ragged or mixed lists, booleans, texts, NaN, numbers out of range and images of fractions up to 1 are "anything
    else". Other fractions are rounded to the nearest whole number.
    """
    # Types are looked at before NumPy sees a value: np.asarray takes true for 1, and would give every number
    # the width of the longest text among them.
    shape: list[int] = []
    level: Sequence[object] = items
    while (kinds := set(map(type, level))) == {list} and len(shape) < 4:
        lengths = set(map(len, level))  # type: ignore[arg-type]  # all are lists
        if len(lengths) != 1:
            return None
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))  # type: ignore[arg-type]
    leaves = _to_uint8(level, kinds, len(items))
    return None if leaves is None else leaves.reshape(len(items), *shape)


def _to_uint8(leaves: Sequence[object], kinds: set[type], images: int) -> np.ndarray | None:
    try:
        if kinds == {int}:
            return np.frombuffer(bytearray(leaves), np.uint8)  # type: ignore[arg-type]
        if not kinds or not kinds <= {int, float}:
            return None
        values = np.array(leaves, dtype=np.float64)
    except (ValueError, OverflowError):  # a whole number out of range
        return None
    inside = ((values >= 0) & (values <= 255)).all()  # NaN is neither
    if not inside or any(map(_is_scaled, np.split(values, images))):
        return None
    return np.rint(values).astype(np.uint8)


def _is_scaled(values: np.ndarray) -> bool:
    """Whether an image's pixels were divided by 255: rounded they would be black."""
    return bool(values.size and values.max() <= 1 and (values % 1).any())


def _one(item: object, pointer: str, size: ImageInput, policy: Resize) -> np.ndarray:
    """One item as uint8 [1, H, W, C]."""
    if isinstance(item, np.ndarray):
        item = item.tolist()
    if isinstance(item, bytes | bytearray):
        return _decoded(bytes(item), pointer, size, policy)
    if isinstance(item, dict):
        return _decoded(_encoded_bytes(item, pointer), pointer, size, policy)
    if not isinstance(item, list):
        raise InvalidInput(f"An image model cannot take {_name(item)} as an input. {_HOW}", pointer=pointer)
    pixels = pixel_array([item])
    if pixels is None:
        raise InvalidInput(_fault(item), pointer=pointer)
    if not _fits(pixels.shape[1:]):
        shape = "x".join(map(str, pixels.shape[1:]))
        raise InvalidInput(
            f"The array of pixels has shape {shape}; it must be [height][width] or [height][width][channels] with 1 "
            f"or 3 channels last. The model's own size is {size.height}x{size.width}x{size.channels}.",
            pointer=pointer,
        )
    return _conform(pixels, size, policy)


def _fits(shape: tuple[int, ...]) -> bool:
    return (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))) and 0 not in shape


def _conform(pixels: np.ndarray, size: ImageInput, policy: Resize) -> np.ndarray:
    """Pixels [B, h, w] or [B, h, w, c] with the height, width and channels of the model."""
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    if pixels.shape[1:] == size.shape:
        return pixels
    return np.stack([_conform_one(image, size, policy) for image in pixels])


def _conform_one(pixels_HWC: np.ndarray, size: ImageInput, policy: Resize) -> np.ndarray:
    grey = pixels_HWC.shape[2] == 1
    image = Image.fromarray(pixels_HWC[..., 0] if grey else pixels_HWC)
    return resize(image.convert("L" if size.channels == 1 else "RGB"), size.height, size.width, policy)


def _decoded(data: bytes, pointer: str, size: ImageInput, policy: Resize) -> np.ndarray:
    try:
        pixels_HWC = decode(data, height=size.height, width=size.width, channels=size.channels, policy=policy)
        return pixels_HWC[np.newaxis]
    except InvalidInput as error:
        raise InvalidInput(error.detail, pointer=pointer) from error


def _encoded_bytes(item: dict[object, object], pointer: str) -> bytes:
    check_only("image", item, pointer)
    text = item.get("image")
    if not isinstance(text, str):
        raise InvalidInput('"image" must be a text: the file in base64.', pointer=f"{pointer}/image")
    return _base64(text, f"{pointer}/image")


def _base64(text: str, pointer: str) -> bytes:
    if text[:8].lower().startswith(("http://", "https://")):
        raise InvalidInput("Addresses are not fetched. Send the file itself in base64.", pointer=pointer)
    prefix = _DATA_URL.match(text)
    try:
        return b64decode(text[prefix.end() :] if prefix else text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(
            "This is not valid base64. Use the standard alphabet with padding and no line breaks.",
            pointer=pointer,
        ) from None


def _name(item: object) -> str:
    names: dict[type, str] = {
        str: "a text",
        bool: "a boolean",
        type(None): "null",
        int: "a number",
        float: "a number",
    }
    return names.get(type(item), "this")


def _fault(item: list[object]) -> str:
    """Why a nested list is not an array of pixels."""
    level: list[object] = item
    depth = 1
    while set(map(type, level)) == {list}:
        level = list(chain.from_iterable(level))  # type: ignore[arg-type]
        depth += 1
    if depth > 3:
        return f"The array is nested {depth} deep; it must be [height][width] or [height][width][channels]."
    kinds = set(map(type, level))
    if kinds and kinds <= {int, float}:
        bad = next((value for value in level if not 0 <= value <= 255), None)  # type: ignore[operator]
        if bad is not None:
            return f"Pixels are numbers from 0 to 255; this array holds {_short(bad)}."
        if _is_scaled(np.array(level, np.float64)):
            return "Pixels are numbers from 0 to 255; these are fractions up to 1. Multiply them by 255."
    if kinds <= {int, float}:
        return "The array is ragged or empty: every row of pixels must have the same length."
    if list in kinds:
        return "The array is ragged: numbers and lists stand side by side."
    odd = next(value for value in level if type(value) not in (int, float))
    return f"Pixels are numbers from 0 to 255; this array holds {_name(odd)}."


def _short(value: object) -> str:
    # A whole number may have thousands of digits; Python refuses to print more than 4300.
    return repr(value) if isinstance(value, float) or abs(value) < 10**20 else "a far larger number"  # type: ignore[arg-type]
