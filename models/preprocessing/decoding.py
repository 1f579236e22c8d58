"""An encoded image, as a client sends it, turned into pixels of the size that a model takes."""

from io import BytesIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.errors import InvalidInput, TandemError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 50_000_000

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


def decode(data: bytes, *, height: int, width: int, channels: int) -> np.ndarray:
    """The pixels, uint8 [height, width, channels], of the first frame of an encoded image.

    The size is read from the header and checked before anything is decoded. Orientation from EXIF is applied,
    transparency is laid over white, 16 bits become 8, and the size is changed with bilinear interpolation.

    Raises:
        InvalidInput: not an image of a known format, damaged, or more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            return resize(_flat(_upright(image), channels), height, width)
    except TandemError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidInput(_TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise InvalidInput(f"This is not a readable image. Send one of: {', '.join(FORMATS)}.") from None
    except Exception as error:  # on damaged files Pillow's decoders raise nearly every kind
        raise InvalidInput("The image is damaged or cut short and cannot be decoded.") from error


def resize(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Pixels, uint8 [height, width, channels], of an image in mode L or RGB; bilinear where sizes differ."""
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.uint8).reshape(height, width, -1)


_TOO_MANY_PIXELS = f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. Send a smaller one."


def _check_size(width: int, height: int) -> None:
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
