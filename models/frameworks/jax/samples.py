"""The training split where the device reads it.

Shape suffixes: S steps, B batch, N rows.
"""

import jax
import numpy as np

from models.engine import Definition, Samples
from models.frameworks.jax.layers import DType
from models.frameworks.jax.stepping import Batch, Rows
from models.preprocessing import Normalisation

Constants = tuple[jax.Array, jax.Array] | tuple[None, None]
"""The mean and the inverse standard deviation of raw samples; None for tokens."""


def constants(normalisation: Normalisation | None, master: DType, device: jax.Device) -> Constants:
    """The normalisation on the device."""
    if normalisation is None:
        return None, None
    mean, inverse_std = (
        jax.device_put(np.asarray(array, master), device)
        for array in (normalisation.mean, normalisation.inverse_std)
    )
    return mean, inverse_std


class TrainingRows:
    """The rows of the training split, and their normalisation in the master dtype.

    They are put on the device once if they take no more than `budget_bytes`; otherwise each piece's
    rows are gathered on the host while the device is busy with the piece before.
    """

    def __init__(
        self,
        train: Samples,
        definition: Definition,
        master: DType,
        device: jax.Device,
        budget_bytes: float,
    ) -> None:
        self._x, self._y = train.x, train.y
        if definition.signature.is_regression:
            self._y = np.asarray(train.y, master)
        self.normalisation = constants(definition.normalisation, master, device)
        self._resident: Rows | None = None
        self.resident = train.x.nbytes <= budget_bytes
        if self.resident:
            self._resident = Rows(*jax.device_put((self._x, self._y), device), *self.normalisation)

    def gather(self, batch: Batch) -> tuple[Rows, Batch]:
        """Rows on the device that hold the piece's, and the piece with their places among them."""
        if self._resident is not None:
            return self._resident, batch
        indices_SB = batch.indices
        places_SB = np.arange(indices_SB.size, dtype=np.int32).reshape(indices_SB.shape)
        used = indices_SB.ravel()
        return Rows(self._x[used], self._y[used], *self.normalisation), batch._replace(indices=places_SB)


def filled(x: np.ndarray, rows: int) -> np.ndarray:
    """The samples, the last of them repeated up to so many rows: a sample of zeros could be a text of no tokens."""
    return np.concatenate((x, np.repeat(x[-1:], rows - len(x), axis=0))) if len(x) < rows else x
