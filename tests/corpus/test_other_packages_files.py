"""Every reader over the test files of other packages: read, or refused with a sentence that names the file.

The files are those that PyPI brings: of pydicom (in its wheel, and more in pydicom-data) and of nibabel. The wheels and source
archives of highdicom and SimpleITK hold none; what these two write is read in tests/dicom and tests/data.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from dicom_files import DERIVATION, SPACING_MM, assert_no_new_errors, identity, phantom_hu

from ltdiff.data.masks import read_named_masks
from ltdiff.data.read_scan import read_scan
from ltdiff.data.volume_files import is_volume_file, read_mask, read_volume, read_volume_scan, read_volume_slice
from ltdiff.dicom.scan import Scan
from ltdiff.dicom.segmentation import find_segmentations, read_segmentation
from ltdiff.dicom.series import Series, find_series
from ltdiff.dicom.structure_set import find_structure_sets, read_structures
from ltdiff.dicom.write_derived import write_derived_series
from ltdiff.dicom.write_original import write_ct_series

CORPORA = {"pydicom": ("pydicom", "data"), "pydicom-data": ("data_store", "data"), "nibabel": ("nibabel", ".")}
"""Package → the name that it is imported by, and its folder of files."""
MAX_BYTES = 10 * 2**20
NUM_CT_SERIES = {"pydicom": 5, "pydicom-data": 1, "nibabel": 0}
"""At least so many of the files are CT slices that are read and derived."""


def files_of(package: str) -> list[Path]:
    module, folder_name = CORPORA[package]
    found = find_spec(module)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    folder = Path(found.origin).parent / folder_name
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in (".py", ".pyc", ".pyi")]
    return [path for path in files if path.stat().st_size <= MAX_BYTES]


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Series:
    """A series that a mask might belong to."""
    folder = tmp_path_factory.mktemp("series") / "ct"
    return read_scan(write_ct_series(phantom_hu(), out_dir=folder, identity=identity(), spacing_mm=SPACING_MM))


def read_all(scan: Scan) -> None:
    assert len(list(scan.read_slices())) == scan.num_slices
    scan.read_slice(0)


def failures(path: Path, readers: dict[str, Callable[[], object]]) -> list[str]:
    """What each of the readers raises for the file, but a ValueError that names it."""
    found = []
    for name, read in readers.items():
        try:
            read()
        except Exception as error:
            if (type(error).__module__ == "builtins" and type(error) is not ValueError) or path.name not in str(error):
                found.append(f"{path} {name}: {error!r}")
    return found


@pytest.mark.parametrize("package", CORPORA)
def test_each_file_by_each_reader(package, series):
    hu = series.read_volume().hu
    found = []
    for path in files_of(package):
        readers = {
            "find_series": lambda path=path: find_series(path),
            "read_scan": lambda path=path: read_all(read_scan(path)),
            "find_segmentations": lambda path=path: find_segmentations(path),
            "find_structure_sets": lambda path=path: find_structure_sets(path),
            "read_segmentation": lambda path=path: list(read_segmentation(path, series)),
            "read_structures": lambda path=path: list(read_structures(path, series)),
            "read_named_masks": lambda path=path: list(read_named_masks(path, series, hu=hu)),
        }
        if is_volume_file(path):
            readers |= {
                "read_volume": lambda path=path: read_volume(path),
                "read_volume_scan": lambda path=path: read_volume_scan(path),
                "read_volume_slice": lambda path=path: read_volume_slice(path, 0),
                "read_mask": lambda path=path: read_mask(path),
            }
        found += failures(path, readers)
    assert found == []


@pytest.mark.parametrize("package", CORPORA)
def test_the_whole_folder(package):
    """Each issue is a sentence about a file, and none is a trace."""
    files = files_of(package)
    found, issues = find_series(files[0].parent)
    assert found or issues
    for issue in issues:
        assert issue.path.name in str(issue)
        assert "\n" not in str(issue)


@pytest.mark.parametrize("package", CORPORA)
def test_each_ct_slice_is_derived(package, tmp_path):
    """dciodvfy finds no error in a derived slice that the file of the package has not."""
    num_derived = 0
    for number, path in enumerate(files_of(package)):
        for series in find_series(path)[0]:
            if series.derived:
                continue
            try:
                pairs = [(stored, stored.hu) for stored in series.read_slices()]
            except ValueError:  # no decoder, or no HU
                continue
            out = write_derived_series(series, pairs, out_dir=tmp_path / str(number), derivation=DERIVATION)
            assert_no_new_errors(series, out)
            num_derived += 1
    assert num_derived >= NUM_CT_SERIES[package]
