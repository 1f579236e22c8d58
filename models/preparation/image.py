"""Images in the size and with the normalisation that a job asks for.

Shape suffixes: N rows, H height, W width, C channels.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from models.data.dataset import Dataset, DatasetDescription, Split
from models.data.scratch import CHUNK_BYTES, LARGE_BYTES, ScratchRows, release
from models.data.statistics import image_preprocessing
from models.errors import InvalidInput
from models.preprocessing import ImagePreprocessing, Preprocessing
from models.preprocessing.decoding import resize
from models.preprocessing.options import PreprocessSpec, Resize
from models.signature import ImageInput

THREADS = 4
"""Pillow resizes outside of Python's lock."""


def prepared_images(
    dataset: Dataset, options: PreprocessSpec, known: Preprocessing | None, folder: Path
) -> Dataset:
    """The dataset with its images in the size that is asked for, and the preprocessing that goes with them.

    The normalisation is the one that is asked for, else that of `known`, else it is fitted on the training split.

    Raises:
        InvalidInput: `mean` does not have a number for each channel.
    """
    assert isinstance(dataset.preprocessing, ImagePreprocessing)
    taken = resized_input(dataset.description, options)
    policy: Resize = options.resize or dataset.preprocessing.resize
    train = _resized(dataset.train, taken, policy, folder)
    return Dataset(
        dataset.description.model_copy(update={"input": taken}),
        _preprocessing(dataset, train, taken, options, known).model_copy(update={"resize": policy}),
        train,
        _resized(dataset.validation, taken, policy, folder),
        _resized(dataset.test, taken, policy, folder),
    )


def resized_input(description: DatasetDescription, options: PreprocessSpec) -> ImageInput:
    """What the network will take. Raises InvalidInput where the options do not fit the images."""
    taken = description.input
    assert isinstance(taken, ImageInput)
    if options.mean is not None and len(options.mean) != taken.channels:
        raise InvalidInput(
            f"'mean' and 'std' have {len(options.mean)} number(s), but the images have {taken.channels} channel(s):"
            " give one for each.",
            pointer="/preprocess/mean",
        )
    height, width = options.size or (taken.height, taken.width)
    return ImageInput(height=height, width=width, channels=taken.channels)


def image_batch(x_NHWC: np.ndarray, about: ImagePreprocessing) -> np.ndarray:
    """Stored images in the size and with the channels that a model takes."""
    taken = about.input
    if x_NHWC.shape[1:] == taken.shape:
        return x_NHWC
    return np.concatenate(list(_batches(x_NHWC, taken, about.resize)))


def _preprocessing(
    dataset: Dataset,
    train: Split,
    taken: ImageInput,
    options: PreprocessSpec,
    known: Preprocessing | None,
) -> ImagePreprocessing:
    if options.mean is not None and options.std is not None:
        return _of(taken, options.mean, options.std)
    if isinstance(known, ImagePreprocessing) and known.channels == taken.channels:
        return _of(taken, known.mean, known.std)
    if train is dataset.train:
        assert isinstance(dataset.preprocessing, ImagePreprocessing)
        return dataset.preprocessing
    return image_preprocessing(train.array)


def _of(taken: ImageInput, mean: tuple[float, ...], std: tuple[float, ...]) -> ImagePreprocessing:
    return ImagePreprocessing(
        height=taken.height, width=taken.width, channels=taken.channels, mean=mean, std=std
    )


def _resized(split: Split, taken: ImageInput, policy: Resize, folder: Path) -> Split:
    """The split in the other size, in a nameless file in `folder` where that takes much room."""
    if split.array.shape[1:] == taken.shape:
        return split
    size = (len(split), *taken.shape)
    if np.prod(size, dtype=np.int64) <= LARGE_BYTES:
        return Split(np.concatenate(list(_batches(split.array, taken, policy))), split.y)
    with ScratchRows(folder, len(split), taken.shape, np.dtype(np.uint8)) as rows:
        start = 0
        for batch in _batches(split.array, taken, policy):
            rows.write(start, batch)
            start += len(batch)
        return Split(rows.array(), split.y)


def _batches(x_NHWC: np.ndarray, taken: ImageInput, policy: Resize) -> Iterator[np.ndarray]:
    """The resized images in order, a few MiB at a time."""
    count = max(1, CHUNK_BYTES // max(x_NHWC[0].nbytes, int(np.prod(taken.shape))))
    one = partial(_one, taken=taken, policy=policy)
    with ThreadPoolExecutor(THREADS) as threads:
        for start in range(0, len(x_NHWC), count):
            chunk = x_NHWC[start : start + count]
            yield np.stack(list(islice(threads.map(one, chunk), len(chunk))))
            release(chunk)


def _one(x_HWC: np.ndarray, *, taken: ImageInput, policy: Resize) -> np.ndarray:
    grey = x_HWC.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(x_HWC[..., 0] if grey else x_HWC))
    if x_HWC.shape[2] != taken.channels:
        image = image.convert("L" if taken.channels == 1 else "RGB")
    return resize(image, taken.height, taken.width, policy)
