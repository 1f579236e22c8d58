"""Uploaded arrays, checked and brought to the dtypes of a dataset. Keys are the suffixes of the arrays' names.

Shape suffixes: N samples, H height, W width, C channels, F features.
"""

from collections.abc import Mapping

import numpy as np

from models.data.uploads.options import Limits
from models.errors import InvalidInput

Arrays = Mapping[str, np.ndarray]
_ROWS = 4096
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def check_samples(xs: Arrays, ys: Arrays) -> None:
    """Every x has rows, as many as its y, and all x have the same shape of a row."""
    for suffix, x in xs.items():
        y = ys[suffix]
        if x.ndim < 2 or y.ndim < 1 or not x.size or not len(y):
            raise InvalidInput(
                f"x{suffix} has shape {x.shape} and y{suffix} {y.shape}; needed are rows: [N, ...] and [N].",
                pointer="/file",
            )
        if len(x) != len(y):
            raise InvalidInput(f"x{suffix} has {len(x)} rows but y{suffix} has {len(y)}.", pointer="/file")
    shapes = {x.shape[1:] for x in xs.values()}
    if len(shapes) > 1:
        listed = ", ".join(f"x{suffix} {x.shape}" for suffix, x in xs.items())
        raise InvalidInput(f"The arrays differ in the shape of a sample: {listed}.", pointer="/file")


def image_pixels(xs: Arrays) -> dict[str, np.ndarray]:
    """Images [N, H, W] or [N, H, W, C] of any numbers in 0..255, or fractions in 0..1, as uint8 [N, H, W, C]."""
    for suffix, x in xs.items():
        _check_image_shape(f"x{suffix}", x)
    ranges = [_range(x, f"x{suffix}") for suffix, x in xs.items()]
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if low < 0 or high > 255:
        raise InvalidInput(
            f"Pixels lie between {low:g} and {high:g}; they must be 0 to 255, or fractions from 0 to 1.",
            pointer="/file",
        )
    fractions = high <= 1 and any(x.dtype.kind in "fb" for x in xs.values())
    return {suffix: _pixels(x, 255 if fractions else 1) for suffix, x in xs.items()}


def table_values(xs: Arrays, limits: Limits) -> dict[str, np.ndarray]:
    """Rows [N, F] of numbers as float32."""
    for suffix, x in xs.items():
        if x.ndim != 2:
            hint = " For images use the task image-classification." if x.ndim in (3, 4) else ""
            raise InvalidInput(f"x{suffix} has shape {x.shape}; a table is [N, F].{hint}", pointer="/file")
        if x.shape[1] > limits.columns:
            raise InvalidInput(
                f"x{suffix} has {x.shape[1]} columns; at most {limits.columns} are taken.", pointer="/file"
            )
    return {suffix: _float32(x, f"x{suffix}") for suffix, x in xs.items()}


def target_values(y: np.ndarray, name: str) -> np.ndarray:
    """Numbers to predict, [N] or [N, 1], as float32 [N]."""
    return _float32(_column(y, name), name)


def label_texts(y: np.ndarray, name: str) -> list[str]:
    """Labels [N] or [N, 1], whole numbers or texts, as texts."""
    y = _column(y, name)
    if y.dtype.kind in "iu":
        return [str(label) for label in y.tolist()]
    if y.dtype.kind not in "SU":
        raise InvalidInput(
            f"{name} holds {y.dtype} values; labels are whole numbers or texts. Use {name}.astype(int), or the task "
            "tabular-regression to predict a number.",
            pointer="/file",
        )
    texts: list[str] = _unicode(y, name).tolist()
    return [text.strip() for text in texts]


def _unicode(y: np.ndarray, name: str) -> np.ndarray:
    """Texts whose every character is one; bytes are taken as UTF-8."""
    try:
        if y.dtype.kind == "S":
            return np.strings.decode(y, "utf-8")
    except UnicodeDecodeError:
        pass
    else:
        # NumPy keeps any 32-bit number as a character, and fails when it meets Python.
        codes = np.ascontiguousarray(y, y.dtype.newbyteorder("=")).view(np.uint32)
        if not ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes <= 0xDFFF))).any():
            return y
    raise InvalidInput(f"{name} holds texts that are not valid Unicode.", pointer="/file")


def _column(y: np.ndarray, name: str) -> np.ndarray:
    if y.ndim == 1:
        return y
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    hint = f" If it is one-hot, store {name}.argmax(axis=1)." if y.ndim == 2 else ""
    raise InvalidInput(
        f"{name} has shape {y.shape}; it must be [N], one value per sample.{hint}", pointer="/file"
    )


def _check_image_shape(name: str, x: np.ndarray) -> None:
    if x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3)):
        return
    hint = ""
    if x.ndim == 4 and x.shape[1] in (1, 3):
        hint = f" It looks like [N, C, H, W]: store {name}.transpose(0, 2, 3, 1)."
    elif x.ndim == 2:
        hint = " For rows of numbers use the task tabular-classification."
    raise InvalidInput(
        f"{name} has shape {x.shape}; images are [N, H, W] or [N, H, W, C] with 1 or 3 channels.{hint}",
        pointer="/file",
    )


def _range(x: np.ndarray, name: str) -> tuple[float, float]:
    _check_numbers(x, name)
    low, high = float(x.min()), float(x.max())
    if not np.isfinite([low, high]).all():
        raise InvalidInput(f"{name} holds NaN or infinite values.", pointer="/file")
    return low, high


def _pixels(x: np.ndarray, scale: int) -> np.ndarray:
    x_NHWC = x if x.ndim == 4 else x[..., np.newaxis]
    if x.dtype == np.uint8 and scale == 1:
        return np.ascontiguousarray(x_NHWC)
    pixels = np.empty(x_NHWC.shape, np.uint8)
    for start in range(0, len(x), _ROWS):
        pixels[start : start + _ROWS] = np.rint(x_NHWC[start : start + _ROWS].astype(np.float32) * scale)
    return pixels


def _float32(x: np.ndarray, name: str) -> np.ndarray:
    _check_numbers(x, name)
    for start in range(0, len(x), _ROWS):
        chunk = x[start : start + _ROWS].astype(np.float64)
        if not (np.abs(chunk) <= _FLOAT32_MAX).all():  # NaN is not
            place = np.argwhere(~(np.abs(chunk) <= _FLOAT32_MAX))[0]
            at = ", ".join(str(number) for number in (start + place[0], *place[1:]))
            raise InvalidInput(
                f"{name}[{at}] is {chunk[tuple(place)]}; every value must be finite and fit a 32-bit float.",
                pointer="/file",
            )
    return np.ascontiguousarray(x, dtype=np.float32)


def _check_numbers(x: np.ndarray, name: str) -> None:
    if x.dtype.kind not in "biuf":
        raise InvalidInput(f"{name} holds texts; it must hold numbers.", pointer="/file")
