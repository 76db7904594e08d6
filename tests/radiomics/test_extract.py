"""The feature catalogue of the regions of a mask, as a table and as text."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import identity
from structure_sets import rectangle, write_structure_set
from tiny_run import SPACING_MM, make_volumes, save_volume

from ltdiff.cli import run_ltdiff
from ltdiff.data.read_scan import read_scan
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.radiomics.catalogue import extract_catalogue, feature_names
from ltdiff.radiomics.config import CatalogueConfig, FilterConfig, IbsiConfig
from ltdiff.radiomics.extract import extract_radiomics, to_text
from ltdiff.radiomics.feature_sets import CATALOGUE, IBSI, PYRADIOMICS, WAVELET, catalogue_set, ibsi_set
from ltdiff.radiomics.feature_table import write_table
from ltdiff.radiomics.region import cut_region

SIZES = ["roi", "num_voxels", "volume_mm3"]
PROVENANCE = ["undefined", "extractor", "extractor_version", "discretisation"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A volume with two regions, one of them in one slice."""
    folder = tmp_path_factory.mktemp("files")
    hu = make_volumes()[0]
    labels = np.zeros(hu.shape)
    labels[1:4, 10:22, 10:22] = 1
    labels[2, 30:36, 30:38] = 7
    return save_volume(hu, folder / "scan.mha"), save_volume(labels, folder / "mask.nii.gz")


@pytest.fixture(scope="module")
def table(files):
    return extract_radiomics(*files, feature_set=CATALOGUE)


def test_a_row_per_region_in_the_order_of_the_catalogue(table):
    assert list(table) == [*SIZES, *feature_names(), *PROVENANCE]
    assert table["roi"].tolist() == ["label_1", "label_7"]
    assert table["num_voxels"].tolist() == [432, 48]
    assert table["volume_mm3"].tolist() == pytest.approx([432 * np.prod(SPACING_MM), 48 * np.prod(SPACING_MM)])
    assert set(table["discretisation"]) == {CATALOGUE.discretisation}


def test_values_are_those_of_the_catalogue(table, files):
    hu = read_scan(files[0]).read_volume().hu
    mask = np.zeros(hu.shape, dtype=bool)
    mask[1:4, 10:22, 10:22] = True
    values, _ = extract_catalogue(cut_region(hu, mask, spacing_mm=SPACING_MM[1:]))
    found = table[list(feature_names())].iloc[0].to_numpy(dtype=float)
    np.testing.assert_array_equal(found, [values[name] for name in feature_names()])


def test_what_is_undefined_is_counted_by_reason(table):
    for _, row in table.iterrows():
        counted = json.loads(row["undefined"])
        assert sum(counted.values()) == row[list(feature_names())].isna().sum()
    assert "the region lies in one slice" in table["undefined"][1]
    assert "one slice" not in table["undefined"][0]


def test_some_classes(files):
    table = extract_radiomics(*files, feature_set=CATALOGUE, only=["IH", "ID"])
    names = [name for name in feature_names() if name.startswith(("ID_", "IH_"))]
    assert list(table) == [*SIZES, *names, *PROVENANCE]
    assert table["undefined"].tolist() == ["", ""]


def test_a_region_that_cannot_be_measured_costs_that_region(files, caplog, tmp_path):
    hu = read_scan(files[0]).read_volume().hu.copy()
    hu[2, 30, 30:32] = -1000, 30_000
    image = save_volume(hu, tmp_path / "scan.nii.gz")
    config = CatalogueConfig(bin_width=0.1)
    assert extract_radiomics(image, files[1], feature_set=catalogue_set(config), only=["ID"])["roi"].tolist() == ["label_1"]
    assert "the region label_7 is left out: A region of interest spans" in caplog.text
    labels = np.zeros(hu.shape)
    labels[2, 30:36, 30:38] = 7
    with pytest.raises(ValueError, match=r"mask\.mha: no region of the mask can be measured"):
        extract_radiomics(image, save_volume(labels, tmp_path / "mask.mha"), feature_set=catalogue_set(config), only=["ID"])


@pytest.mark.parametrize(
    ("feature_set", "beyond"),
    [
        (CATALOGUE, 0),
        (PYRADIOMICS, 0),
        (WAVELET, 6),
        (IBSI, 9),  # local intensities: 6.2 mm, and two voxels
        (ibsi_set(IbsiConfig(filter=FilterConfig("mean", size=41))), 22),
        (ibsi_set(IbsiConfig(filter=FilterConfig("simoncelli"))), 60),
    ],
)
def test_a_model_standardizes_all_slices_that_features_see(tmp_path, feature_set, beyond):
    """What it makes of other slices changes nothing."""
    hu = np.random.default_rng(0).normal(0, 90, (60, 14, 14)).astype(np.float32).round()
    labels = np.zeros(hu.shape)
    labels[29:31, 4:10, 4:10] = 1
    spacing_mm = (1.0, 1.0, 1.0)
    files = [save_volume(a, tmp_path / f"{k}.nrrd", spacing_mm=spacing_mm) for k, a in enumerate((hu, labels))]
    asked = []

    def standardize(concerned, *, others):
        asked.append(np.flatnonzero(concerned))
        return [np.where(concerned[:, None, None], hu + 1, others)]

    found = [
        extract_radiomics(*files, feature_set=feature_set, standardize=partial(standardize, others=others)) for others in (0, 90)
    ]
    pd.testing.assert_frame_equal(*found)
    assert asked[0].tolist() == list(range(max(0, 29 - beyond), min(60, 31 + beyond)))


def test_a_class_that_there_is_not(tmp_path):
    with pytest.raises(ValueError, match="no feature or class of features 'GLCM'; the classes are GLCM25D, "):
        extract_radiomics(tmp_path / "a.nrrd", tmp_path / "b.nrrd", feature_set=CATALOGUE, only=["ID", "GLCM"])


@pytest.mark.parametrize(("name", "read"), [("t.parquet", pd.read_parquet), ("T.CSV", pd.read_csv)])
def test_a_table_is_read_back(table, tmp_path, name, read):
    write_table(table, tmp_path / "new" / name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    pd.testing.assert_frame_equal(read(tmp_path / "new" / name), table)


def test_text_has_a_line_per_feature(table):
    header, *lines = to_text(table).splitlines()
    assert header == "feature\tlabel_1\tlabel_7"
    assert [line.split("\t")[0] for line in lines] == [*SIZES[1:], *feature_names(), *PROVENANCE]
    values = {name: float(value) for name, value, _ in (line.split("\t") for line in lines[:-4])}
    assert values["num_voxels"] == 432
    assert values["GOH_Skewness"] == table["GOH_Skewness"][0]


def test_the_command_prints_or_writes(files, tmp_path, capsys):
    arguments = [*map(str, files), "--only", "NID25D, ID", "--set", "catalogue.bin_width=50"]
    assert run_ltdiff(["radiomics", *arguments]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert run_ltdiff(["radiomics", *arguments, "--out", str(tmp_path / "table.csv")]) == 0
    table = pd.read_csv(tmp_path / "table.csv")
    assert printed[0].split("\t") == ["feature", *table["roi"]]
    assert len(printed) == len(list(table))
    assert "bins of 50 HU" in table["discretisation"][0]


def test_a_series_and_its_structure_set(tmp_path):
    hu = make_volumes()[0]
    folder = write_ct_series(
        hu, out_dir=tmp_path / "series", identity=identity(kernel="B", slice_thickness_mm=5.0), spacing_mm=SPACING_MM
    )
    series = read_scan(folder)
    rois = [("GTV", [rectangle(series, z, (9.5, 21.5), (9.5, 21.5)) for z in (1, 2, 3)])]
    write_structure_set(folder / "rs.dcm", series, rois)
    table = extract_radiomics(folder, folder, feature_set=CATALOGUE, only=["ID"])
    assert table["roi"].tolist() == ["GTV"]
    assert table["ID_GlobalMean"][0] == pytest.approx(np.maximum(hu, -1024)[1:4, 10:22, 10:22].mean())
    assert table["volume_mm3"][0] == pytest.approx(432 * np.prod(SPACING_MM))


@pytest.mark.parametrize("kind", ["tilted", "uneven"])
def test_slices_without_a_regular_grid_have_the_features_of_slices(tmp_path, kind):
    """A tilted gantry or slices at other distances: features in the plane are as they were, others are refused by name."""
    hu = make_volumes()[0]
    folder = write_ct_series(
        hu, out_dir=tmp_path / "scan", identity=identity(kernel="B", slice_thickness_mm=5.0), spacing_mm=SPACING_MM
    )
    only = ["GLCM25D", "ID", "GOH"]

    def measure(only):
        (series,), _ = find_series(folder)
        contours = [
            [np.add(header.position_mm, [column * 0.7, row * 0.8, 0]) for row, column in corners] for header in series.slices[1:4]
        ]
        path = write_structure_set(tmp_path / "rs.dcm", series, [("A", contours)])
        return extract_radiomics(folder, path, feature_set=CATALOGUE, only=only).set_index("roi")

    corners = [(9.5, 9.5), (9.5, 21.5), (21.5, 21.5), (21.5, 9.5)]
    regular = measure(only)
    for index, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        x, y, z = map(float, dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y + 0.9 * index, z] if kind == "tilted" else [x, y, z + 2.5 * max(0, index - 2)]
        dataset.save_as(path)
    irregular = measure(only)
    pd.testing.assert_frame_equal(irregular.drop(columns="volume_mm3"), regular.drop(columns="volume_mm3"))
    depths_mm = (5, 5, 5) if kind == "tilted" else (5, 6.25, 7.5)
    assert irregular["volume_mm3"].item() == pytest.approx(144 * 0.8 * 0.7 * sum(depths_mm))
    for names in (None, ["ID", "NID3D"], ["GLCM3D_sum_1_Contrast"]):
        with pytest.raises(ValueError, match=r"slice_0001\.dcm forms no regular grid in space: its .* need one; name others"):
            measure(names)
    mask = save_volume(np.ones(hu.shape), tmp_path / "mask.nii.gz")
    with pytest.raises(ValueError, match=r"slice_0001\.dcm forms no regular grid in space: its (gantry|slices)"):
        extract_radiomics(folder, mask, feature_set=CATALOGUE, only=only)
