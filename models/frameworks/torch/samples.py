"""The training split on the device: gathered, augmented and normalised there.

Shape suffixes: S steps, B batch, N rows, C channels, H height, W width, F features.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.engine import Definition, Samples
from models.frameworks.torch.tensors import view
from models.plan import Segment, crop_padding
from models.preprocessing import Normalisation

Enter = Callable[[Tensor], Tensor]
"""From raw samples on the device to what the network takes."""


def entrance(definition: Definition, dtype: torch.dtype, device: torch.device) -> Enter:
    """What raw samples go through: the normalisation in the network's dtype; tokens go in as they are."""
    if definition.normalisation is None:
        return lambda ids_BT: ids_BT
    return Normalise(definition.normalisation, definition.signature.input.shape, dtype, device)


class Normalise:
    """(x - mean) * inverse_std of raw samples in the network's dtype; images come out as BCHW."""

    def __init__(
        self, normalisation: Normalisation, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        # One value per element: a broadcast over three channels would run its inner loop three long.
        self.mean, self.inverse_std = (
            torch.tensor(array).to(device, dtype).expand(shape).contiguous()
            for array in (normalisation.mean, normalisation.inverse_std)
        )
        self.is_image = len(shape) == 3

    def __call__(self, x: Tensor) -> Tensor:
        """x: uint8 [B, H, W, C] -> x_BCHW in channels_last, or float32 [B, F] -> x_BF."""
        normal = torch.sub(x, self.mean).mul_(self.inverse_std)
        return normal.permute(0, 3, 1, 2) if self.is_image else normal


class TrainingRows:
    """The rows of the training split where the device reads them.

    On a CPU they stay where they are, memory-mapped or not. A GPU gets a copy if it takes no more than
    `budget_bytes`; otherwise each piece's rows are gathered on the host while the GPU is busy with the last.
    """

    def __init__(self, samples: Samples, device: torch.device, budget_bytes: float) -> None:
        self.device = device
        self.resident = samples.x.nbytes <= budget_bytes
        self._raw = samples.x
        self._x = view(samples.x).to(device) if self.resident else None

    def gather(self, indices_SB: np.ndarray) -> tuple[Tensor, Tensor]:
        """Rows on the device that hold the indexed ones, and the places of these, int64 [S, B]."""
        if self._x is not None:
            return self._x, torch.from_numpy(indices_SB.astype(np.int64)).to(self.device)
        rows = torch.from_numpy(self._raw[indices_SB.ravel()]).to(self.device)
        return rows, torch.arange(indices_SB.size, device=self.device).view(indices_SB.shape)


def budget_bytes(device: torch.device) -> float:
    """How many bytes of samples may live on the device: half of a GPU's free memory."""
    return float("inf") if device.type == "cpu" else torch.cuda.mem_get_info(device)[0] / 2


class Augmentation:
    """The crops and flips of a segment, as the rows and columns that each image is read from."""

    def __init__(self, segment: Segment, shape: tuple[int, int, int], device: torch.device) -> None:
        height, width, _ = shape
        self.padding = 0 if segment.offsets is None else crop_padding(height)
        offsets_SB2 = np.zeros((*segment.indices.shape, 2)) if segment.offsets is None else segment.offsets
        offsets_SB2 = offsets_SB2.astype(np.int64)
        flips_SB = np.zeros(segment.indices.shape, bool) if segment.flips is None else segment.flips
        columns_W = np.arange(width)
        columns_SBW = np.where(flips_SB[..., None], columns_W[::-1], columns_W) + offsets_SB2[..., 1:]
        rows_SBH = np.arange(height) + offsets_SB2[..., :1]
        self.rows_SBH, self.columns_SBW = (
            torch.from_numpy(index).to(device) for index in (rows_SBH, columns_SBW)
        )
        self.images_B11 = torch.arange(segment.indices.shape[1], device=device)[:, None, None]

    def apply(self, x_BHWC: Tensor, step: int) -> Tensor:
        """The raw images of this step, zero-padded, cropped, then mirrored."""
        padding = self.padding
        if padding:
            x_BHWC = F.pad(x_BHWC, (0, 0, padding, padding, padding, padding))
        return x_BHWC[self.images_B11, self.rows_SBH[step][:, :, None], self.columns_SBW[step][:, None, :]]


def augmentation_of(segment: Segment, shape: tuple[int, ...], device: torch.device) -> Augmentation | None:
    """What the segment does to its images; None if nothing."""
    if len(shape) != 3 or (segment.flips is None and segment.offsets is None):
        return None
    return Augmentation(segment, shape, device)
