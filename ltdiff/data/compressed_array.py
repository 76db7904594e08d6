"""Masks that wait for their images: compressed, they take a hundredth of what the images do."""

import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CompressedArray:
    """An array of few different values; of a mask (Z, 512, 512) about 2 kB a slice."""

    compressed: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Self:
        """Compress an array."""
        return cls(zlib.compress(np.ascontiguousarray(array).data, level=1), array.shape, array.dtype)

    def read(self) -> NDArray[Any]:
        """Return the array, read-only."""
        return np.frombuffer(zlib.decompress(self.compressed), self.dtype).reshape(self.shape)
