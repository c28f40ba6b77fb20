"""The vector of a text: the mean of its tokens' hidden states, made as long as 1."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MIN_LENGTH = 1e-12  # of a mean, when it is divided by its length


class TextVector:
    """The sum of the hidden states that were computed so far, chunk after chunk of a text.

    It is added up row by row in float64, so that it is the same however the text was cut.
    """

    def __init__(self) -> None:
        self._sum = np.zeros(0)
        self._count = 0

    def add(self, start: int, rows: Floats) -> None:
        """Add the rows, (tokens, width), of the tokens from `start` on; with 0 all begins anew."""
        if not start:
            self._sum, self._count = np.zeros(rows.shape[1]), 0
        self._count += len(rows)
        self._sum = np.vstack([self._sum, rows]).sum(axis=0)

    def unit(self) -> Floats:
        """Return the mean made as long as 1, (width,)."""
        mean = self._sum / self._count
        length = max(float(np.sqrt(mean @ mean)), MIN_LENGTH)
        with np.errstate(invalid="ignore"):  # whoever asks looks whether there are numbers
            unit: Floats = (mean / length).astype(np.float32)
        return unit
