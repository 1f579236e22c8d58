"""An encoded image, as a client sends it, turned into pixels of the size that a model takes."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.errors import InvalidInput, TandemError
from models.preprocessing.options import Resize

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 50_000_000
MAX_SIDE = 20_000

# EXIF tag 0x0112 says how the camera was held; each value is undone by one transposition.
# Source: Exif 2.32, section 4.6.4, tag Orientation.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
# Where Pillow looks for the orientation. It decodes a whole PNG to look behind the pixels; for a header that is too
# much.
_ORIENTATION_PLACES = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})


@dataclass(frozen=True)
class ImageHeader:
    """What an encoded image says of itself: the size in pixels once it stands upright, and whether it is grey."""

    height: int
    width: int
    grey: bool


def read_header(file: BinaryIO) -> ImageHeader:
    """The header of an encoded image; its pixels are not decoded.

    Raises:
        InvalidInput: not an image of a known format, damaged, or too large.
    """
    with _opened(file) as image:
        width, height = image.size
        if _ORIENTATION_PLACES.intersection(image.info) and _orientation(image) in _ON_ITS_SIDE:
            width, height = height, width
        return ImageHeader(height, width, _is_grey(image))


def decode(data: bytes, *, height: int, width: int, channels: int, policy: Resize = "stretch") -> np.ndarray:
    """The pixels, uint8 [height, width, channels], of the first frame of an encoded image.

    The size is read from the header and checked before anything is decoded. Orientation from EXIF is applied,
    transparency is laid over white, 16 bits become 8, and the size is changed as `resize` does. A JPEG of more than
    four times the size is decoded at 1/2, 1/4 or 1/8 of it, though never below twice the size that is wanted: several
    times faster, and a smooth picture comes out the same to within a few levels of 255.

    Raises:
        InvalidInput: not an image of a known format, damaged, or too large.
    """
    with _opened(BytesIO(data)) as image:
        # Twice the longer side, for it is not known yet which side will be which.
        image.draft(None, (2 * max(height, width),) * 2)  # None keeps the mode
        return resize(_flat(_upright(image), channels), height, width, policy)


def resize(image: Image.Image, height: int, width: int, policy: Resize = "stretch") -> np.ndarray:
    """Pixels, uint8 [height, width, channels], of an image in mode L or RGB; bilinear where sizes differ, with each
    pixel that is left the mean of those that it stands for.

    Other proportions are stretched; or the middle is cropped after scaling the shorter side; or black is added on
    both sides after scaling the longer one.
    """
    if image.size != (width, height):
        image = _RESIZED[policy](image, height, width)
    return np.array(image, dtype=np.uint8).reshape(height, width, -1)


def _stretched(image: Image.Image, height: int, width: int) -> Image.Image:
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(width / image.width, height / image.height)
    left, top = (image.width - width / scale) / 2, (image.height - height / scale) / 2
    left, top = max(0.0, left), max(0.0, top)  # rounding may go below
    middle = (left, top, image.width - left, image.height - top)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=middle)


def _padded(image: Image.Image, height: int, width: int) -> Image.Image:
    scale = min(width / image.width, height / image.height)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    found = Image.new(image.mode, (width, height))
    found.paste(
        image.resize(size, Image.Resampling.BILINEAR), ((width - size[0]) // 2, (height - size[1]) // 2)
    )
    return found


_RESIZED: Mapping[Resize, Callable[[Image.Image, int, int], Image.Image]] = MappingProxyType(
    {"stretch": _stretched, "crop": _cropped, "pad": _padded}
)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    """An image whose size has been checked. Whatever goes wrong with it while it is open is InvalidInput."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            _check_size(*image.size)
            yield image
    except TandemError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidInput(_TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise InvalidInput(f"This is not a readable image. Send one of: {', '.join(FORMATS)}.") from None
    except Exception as error:  # on damaged files Pillow's decoders raise nearly every kind
        raise InvalidInput("The image is damaged or cut short and cannot be decoded.") from error


_TOO_MANY_PIXELS = f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. Send a smaller one."


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise InvalidInput(
            f"The image is {width} pixels wide and {height} high; at most {MAX_SIDE} are taken on a side. Send a "
            "smaller one."
        )
    if width * height > MAX_PIXELS:
        raise InvalidInput(_TOO_MANY_PIXELS)


def _upright(image: Image.Image) -> Image.Image:
    method = _UPRIGHT.get(_orientation(image))
    return image if method is None else image.transpose(method)


def _orientation(image: Image.Image) -> int:
    # A photo whose EXIF block is broken is still a photo: viewers show it as stored, and so do we.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the EXIF reader raises as many kinds as there are ways to break it
        return 1


def _is_grey(image: Image.Image) -> bool:
    """Whether a mode has no colour; a palette has none where red, green and blue are the same in every entry."""
    if image.mode not in ("P", "PA"):
        return image.mode in ("1", "L", "La", "LA", "F") or image.mode.startswith("I")
    entries = np.array(image.getpalette("RGB") or [0], np.uint8).reshape(-1, 3)
    return bool((entries == entries[:, :1]).all())


def _flat(image: Image.Image, channels: int) -> Image.Image:
    """The image in mode L or RGB, without transparency."""
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("L" if channels == 1 else "RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    # Pillow's own conversion of 16-bit grey clips or truncates, depending on its version; 65535 is 255 * 257.
    pixels = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((np.minimum(pixels, 65535) + 128) // 257).astype(np.uint8))
