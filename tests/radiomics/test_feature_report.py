"""`ltdiff radiomics --dicom`: the DICOM report holds what the table holds."""

import highdicom as hd
import numpy as np
import pandas as pd
import pytest
from dicom_files import conformance_checker, find_conformance_errors, identity
from structure_sets import rectangle, write_structure_set
from tiny_run import SPACING_MM, make_volumes, save_volume

from ltdiff.cli import run_ltdiff
from ltdiff.data.read_scan import read_scan
from ltdiff.data.region_report import RegionReport
from ltdiff.dicom.coded_terms import feature_term, method_term
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.radiomics.extract import extract_radiomics
from ltdiff.radiomics.feature_codes import feature_codes
from ltdiff.radiomics.feature_report import write_report
from ltdiff.radiomics.feature_sets import CATALOGUE, FEATURE_SETS

NO_FEATURES = ["undefined", "extractor", "extractor_version", "discretisation"]


@pytest.fixture
def files(tmp_path):
    """A series and its structure set: a region in three slices, and one in one."""
    folder = write_ct_series(
        make_volumes()[0], out_dir=tmp_path / "series", identity=identity(slice_thickness_mm=5.0), spacing_mm=SPACING_MM
    )
    series = read_scan(folder)
    boxes = [("GTV", (1, 2, 3), (9.5, 21.5)), ("node", (2,), (29.5, 33.5))]
    rois = [(name, [rectangle(series, z, edges, edges) for z in slices]) for name, slices, edges in boxes]
    return folder, write_structure_set(tmp_path / "rs.dcm", series, rois)


def groups_of(report):
    return hd.sr.srread(report).content.get_volumetric_roi_measurement_groups()


def parameters_of(group):
    return [item.TextValue for item in group[0].ContentSequence if item.name.meaning == "Algorithm Parameters"]


@pytest.mark.parametrize(
    ("features", "only"),
    [
        ("catalogue", "ID,GOH,NID3D,GLRLM25D"),
        ("ibsi", "morph,stat,ivh,szm"),
        ("pyradiomics", "firstorder,glcm"),
        ("wavelet", "intensity,texture,wavelet_HHL_glszm_ZonePercentage,wavelet_LLL_firstorder_TotalEnergy"),
    ],
)
def test_the_command_writes_table_and_report(files, tmp_path, features, only, capsys):
    """Every value that is defined, under the name, method and unit of its column; the region in one slice lacks some."""
    feature_set = FEATURE_SETS[features]
    arguments = [*files, "--features", features, "--only", only, "--out", tmp_path / "t.parquet", "--dicom", tmp_path / "report"]
    for _ in range(2):  # the same again writes the same
        assert run_ltdiff(["radiomics", *map(str, arguments)]) == 0
        segmentation, report = sorted((tmp_path / "report").iterdir())
    assert (segmentation.name[:4], report.name[:3]) == ("SEG.", "SR.")
    if conformance_checker() is not None:
        assert [*find_conformance_errors(segmentation), *find_conformance_errors(report)] == []
    table = pd.read_parquet(tmp_path / "t.parquet").set_index("roi").drop(columns=NO_FEATURES)
    groups, codes = groups_of(report), feature_codes(feature_set)
    assert [group.tracking_identifier for group in groups] == table.index.tolist()
    columns = {
        (feature_term(column, code.ibsi).value, method_term(code.method).value if code.method else None): column
        for column, code in codes.items()
    } | {("num_voxels", None): "num_voxels", ("118565006", None): "volume_mm3"}
    for group in groups:
        found = {columns[m.name.value, m.method and m.method.value]: m.value for m in group.get_measurements()}
        assert found == table.loc[group.tracking_identifier].dropna().to_dict()
    assert table.isna().any(axis=1).tolist() == [False, features in ("catalogue", "ibsi")]
    assert parameters_of(groups[0])[0] == feature_set.discretisation.replace("…", "to")
    assert [one for one in parameters_of(groups[0])[1:] if "bin_width=25.0" not in one] == []


def test_it_says_how_an_image_was_made(files, tmp_path):
    folder, mask = files
    report = RegionReport(read_scan(folder), mask)
    table = extract_radiomics(folder, mask, feature_set=CATALOGUE, only=["ID_GlobalMean"], keep=report.add)
    _, path = write_report(report, table, feature_set=CATALOGUE, folder=tmp_path / "report", made_by=["by a model"])
    assert [parameters_of(group)[0] for group in groups_of(path)] == ["by a model"] * 2


def test_the_image_must_be_a_dicom_series(tmp_path, capsys):
    hu = make_volumes()[0]
    scan, mask = save_volume(hu, tmp_path / "scan.mha"), save_volume(np.ones(hu.shape), tmp_path / "mask.nii.gz")
    assert run_ltdiff(["radiomics", str(scan), str(mask), "--dicom", str(tmp_path / "report")]) == 1
    assert "scan.mha: a DICOM report needs an image that is a DICOM series" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()


def test_a_report_that_cannot_be_written_is_told_before_the_work(files, tmp_path, capsys):
    (tmp_path / "report").write_text("a file")
    assert run_ltdiff(["radiomics", *map(str, files), "--dicom", str(tmp_path / "report")]) == 1
    assert "report: File exists" in capsys.readouterr().err
    assert (tmp_path / "report").read_text() == "a file"


def test_of_a_real_scan(real_data, tmp_path):
    """LIDC-IDRI-0001: a nodule in a NIfTI mask."""
    folder = real_data / "lidc-small" / "LIDC-IDRI-0001"
    (scan,) = (path for path in folder.iterdir() if path.is_dir())
    arguments = [scan, folder / "mask_consensus2.nii.gz", "--features", "ibsi", "--only", "morph,stat,ih"]
    arguments += ["--out", tmp_path / "t.csv", "--dicom", tmp_path / "report"]
    assert run_ltdiff(["radiomics", *map(str, arguments)]) == 0
    segmentation, report = sorted((tmp_path / "report").iterdir())
    if conformance_checker() is not None:
        assert [*find_conformance_errors(segmentation), *find_conformance_errors(report)] == []
    (group,), row = groups_of(report), pd.read_csv(tmp_path / "t.csv").iloc[0]
    values = {measurement.name.value: measurement.value for measurement in group.get_measurements()}
    assert values["RNU0"] == pytest.approx(row["morph_volume"], rel=1e-12)
    assert values["Q4LE"] == pytest.approx(row["stat_mean"], rel=1e-12)
    assert hd.seg.segread(segmentation).get_volume().array.sum() == row["num_voxels"] == values["num_voxels"]
