"""Filters that do not depend on direction: a filter's responses in all right-angle rotations, pooled (IBSI 2)."""

from collections.abc import Callable, Iterator
from itertools import permutations, product

import numpy as np

from ltdiff.radiomics.region import Floats

Filter = Callable[[Floats], Floats]
"""Image (Z, Y, X) → response of that shape."""


def pool_rotations(image: Floats, respond: Filter, *, in_space: bool, pool_max: bool) -> Floats:
    """Mean or maximum of the responses to an image (Z, Y, X) over the 24 rotations in space, or the 4 in the plane (Y, X).

    A rotated filter is the filter of the rotated image, rotated back.
    """
    pooled, number = np.zeros(image.shape), 0
    for axes, flipped in _rotations(in_space=in_space):
        rotated = np.flip(image, flipped).transpose(axes)
        back = np.flip(respond(np.ascontiguousarray(rotated)).transpose(np.argsort(axes)), flipped)
        pooled = back.copy() if not number else np.maximum(pooled, back) if pool_max else pooled + back
        number += 1
    return pooled if pool_max else pooled / number


def _rotations(*, in_space: bool) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Order of the axes and the axes to flip before, of each rotation: those of determinant 1."""
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrix = np.diag(signs)[list(axes)]
        if np.linalg.det(matrix) > 0 and (in_space or matrix[0, 0] == 1):
            yield axes, tuple(axis for axis, sign in enumerate(signs) if sign < 0)
