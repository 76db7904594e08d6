"""The index of the Imaging Data Commons: which series it has, and which of them are of one scan."""

import sys

import pandas as pd
import pytest
from open_index_files import DOI, ct_row, describe, row, write_index

from ltdiff.survey.open_index import find_index, read_citations, read_ct_series, read_release


def scans(index, collection="nlst") -> list[list[str]]:
    """The kernels of each scan."""
    series = read_ct_series(index, collection)
    return sorted(sorted(kernels) for _, kernels in series.groupby("scan")["kernel"])


def test_a_series_is_described(tmp_path):
    series = read_ct_series(write_index(tmp_path, [row("100001", "B30f")]), "nlst").iloc[0]
    assert (series["kernel"], series["slice_thickness_mm"], series["diameter_mm"], series["num_slices"]) == ("B30f", 2, 360, 150)
    assert (series["manufacturer"], series["licence"], series["doi"]) == ("SIEMENS", "CC BY 4.0", DOI.lower())
    assert series["url"] == "s3://idc-open-data/100001-1-b30f-0/*"


def test_two_kernels_of_one_scan_agree_in_all_else(tmp_path):
    rows = [row("100001", "B30f"), row("100001", "B50f"), row("100001", "B80f", instanceCount=149)]
    rows += [row("100001", "B60f", SeriesDescription=describe("B60f", diameter="300"))]
    rows += [row("100001", "B70f", SeriesDescription=describe("B70f", thickness="1"))]
    rows += [row("100001", "B31f", study="2"), row("100002", "B30f"), row("100001", "B20f", scanner=("SIEMENS", "Emotion 6"))]
    alone = ["B20f", "B30f", "B31f", "B60f", "B70f", "B80f"]
    assert scans(write_index(tmp_path, rows)) == sorted([["B30f", "B50f"], *([kernel] for kernel in alone)])


def test_what_is_no_original_axial_scan_of_the_collection_is_left_out(tmp_path):
    rows = [row("100001", "B30f"), row("100001", "B50f", Modality="SEG"), row("100001", "B60f", collection_id="other")]
    rows += [row("100001", "B70f", analysis_result_id="lidc_annot_nlst501")]
    rows += [row("100001", "B80f", instanceCount=9)]
    rows += [row("100001", "T20s", SeriesDescription=describe("T20s", image="OPL"))]
    rows += [
        row("100001", "none", SeriesDescription=text) for text in (None, "Chest", "0,OPA,SE,VZOOM,,360,2,120,75,40,na", "0,OPA")
    ]
    assert scans(write_index(tmp_path, rows)) == [["B30f"]]


def test_a_later_reconstruction_of_the_raw_data_is_of_the_same_scan(tmp_path):
    rows = [row("200001", "STANDARD"), row("200001", "BONE", SeriesDescription=describe("BONE", image="OSA"))]
    assert scans(write_index(tmp_path, rows)) == [["BONE", "STANDARD"]]


def test_numbers_that_a_description_lacks_are_unknown(tmp_path):
    rows = [row("100001", "B30f", SeriesDescription=describe("B30f", diameter="null", thickness="na"))]
    series = read_ct_series(write_index(tmp_path, rows), "nlst").iloc[0]
    assert pd.isna(series["diameter_mm"])
    assert pd.isna(series["slice_thickness_mm"])


def test_headers_know_the_kernels_of_other_collections(tmp_path):
    rows = [row("A1", name, number=k, collection_id="lung", SeriesDescription="Thorax") for k, name in enumerate("abcdef")]
    kernels = [["Br40d", "3"], ["Bl64d", "3"], ["Bl64d"], None, ["Hr60"], ["T20"]]
    later, derived, localizer = (
        {"ImageType": f"{kind} AXIAL".split()[:3]}
        for kind in ("ORIGINAL SECONDARY", "DERIVED SECONDARY", "ORIGINAL PRIMARY LOCALIZER")
    )
    changes = [{}, later, {"SliceThickness": 3.0}, {}, derived, localizer]
    ct = [ct_row(one, kernel, **change) for one, kernel, change in zip(rows, kernels, changes, strict=True)]
    index = write_index(tmp_path, rows, ct=ct)
    assert scans(index, "lung") == [["Bl64d"], ["Bl64d\\3", "Br40d\\3"]]  # joined as `ltdiff pair` reads them
    assert set(read_ct_series(index, "lung")["slice_thickness_mm"]) == {1.5, 3.0}


def test_a_collection_without_known_kernels_names_the_file_that_has_them(tmp_path):
    index = write_index(tmp_path, [row("A1", "B", collection_id="lung", SeriesDescription="Thorax")])
    with pytest.raises(
        ValueError, match=r"no series of the collection 'lung' has a known kernel: .* ct_index.parquet of the same"
    ):
        read_ct_series(index, "lung")
    with pytest.raises(ValueError, match="the index has no CT series of a collection 'NLST'"):
        read_ct_series(index, "NLST")


def test_citations_are_those_of_the_data_sets(tmp_path):
    index = write_index(tmp_path, [row("100001", "B30f")])
    found = read_citations(index, ["10.1/unknown", DOI])
    assert found["doi"].tolist() == ["10.1/unknown", DOI.lower()]
    assert found["licence"].tolist() == ["", "CC BY 4.0"]
    assert found.loc[1, "licence_url"] == "https://creativecommons.org/licenses/by/4.0/"
    assert "<i>Data from\nNLST</i>" in found.loc[1, "citation"]
    assert read_release(index) == "25.0.5-0-gf08b112"


def test_a_folder_that_is_no_index_is_named_in_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"is no index of the Imaging Data Commons: it has no idc_index\.parquet$"):
        read_ct_series(tmp_path, "nlst")
    (tmp_path / "idc_index.parquet").write_text("nothing")
    with pytest.raises(ValueError, match=r"idc_index\.parquet is not as the package idc-index-data 25 has it: "):
        read_ct_series(tmp_path, "nlst")
    series = row("100001", "B30f")
    del series["series_aws_url"]
    with pytest.raises(ValueError, match=r"is not as the package idc-index-data 25 has it: .*series_aws_url") as fault:
        read_ct_series(write_index(tmp_path, [series]), "nlst")
    assert "\n" not in str(fault.value)


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "idc_index_data", None)
    with pytest.raises(ValueError, match=r"idc-index-data: pip install 'ltdiff\[idc\]'"):
        find_index()
