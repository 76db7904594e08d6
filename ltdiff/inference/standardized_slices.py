"""Slices of one series or of many, standardized several at a time."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

from ltdiff.inference.method import Method, Slices
from ltdiff.inference.series_method import SeriesMethod
from ltdiff.system.progress import progress


def standardize_slices(
    method: Method,
    slices_hu: Sequence[Slices] | Slices,
    spacings_mm: Iterable[Sequence[float]],
    *,
    numbers: Iterable[int],
    series: Iterable[str] | None = None,
    num_workers: int,
    name: str = "standardize",
    is_shown: bool = True,
) -> list[Slices]:
    """A' (Y, X) of source slices (Y, X), several at a time, with PixelSpacings (y, x) and their numbers in their series.

    A `SeriesMethod` needs to be told the `series` of each slice in its manifest. Progress `is_shown`, or not.
    """
    methods: Iterable[Method] = repeat(method)
    if isinstance(method, SeriesMethod) and series is not None:
        methods = [method.for_series(uid) for uid in series]

    def standardize(one: Method, hu: Slices, spacing_mm: Sequence[float], number: int) -> Slices:
        return one.standardize(hu[None], (float(spacing_mm[0]), float(spacing_mm[1])), first_slice=int(number))[0]

    with ThreadPoolExecutor(num_workers) as pool:
        made = pool.map(standardize, methods, slices_hu, spacings_mm, numbers)
        return list(progress(made, name=name, unit="slice", total=len(slices_hu), is_shown=is_shown))
