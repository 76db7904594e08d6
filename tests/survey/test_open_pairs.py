"""Scans of two kernels in open collections: counted, chosen and listed."""

import shlex

import pandas as pd
import pytest
from open_index_files import GE, SPREAD, row, spread_rows, write_index

from ltdiff.survey.open_index import find_index, read_ct_series
from ltdiff.survey.open_pairs import choose_series, count_kernel_pairs, scans_of_two_kernels, write_list

SIEMENS_KERNELS = ("B30f", "B50f")


@pytest.fixture
def index(tmp_path):
    return write_index(tmp_path / "index", spread_rows())


@pytest.fixture
def series(index):
    return read_ct_series(index, "nlst")


def many_patients(tmp_path, *, num: int) -> pd.DataFrame:
    """Series of so many patients on each of two scanners, three scans each, of which one scanner has a third as many."""
    models = {("SIEMENS", "Volume Zoom"): num, ("SIEMENS", "Sensation 4"): num // 3}
    rows = [
        row(f"{place}{number:05d}", kernel, scanner=scanner, study=str(study))
        for place, (scanner, patients) in enumerate(models.items())
        for number in range(patients)
        for study in range(3)
        for kernel in SIEMENS_KERNELS
    ]
    return read_ct_series(write_index(tmp_path / "many", rows), "nlst")


def test_pairs_of_kernels_are_counted(series):
    counts = count_kernel_pairs(series)
    assert counts.to_dict("split", index=False)["data"] == [
        ["B30f", "B50f", "SIEMENS", 4, 4],
        ["B30f", "B80f", "SIEMENS", 1, 1],
        ["B50f", "B80f", "SIEMENS", 1, 1],
        ["BONE", "STANDARD", "GE MEDICAL SYSTEMS", 1, 1],
        ["LUNG", "STANDARD", "GE MEDICAL SYSTEMS", 1, 1],
    ]
    assert scans_of_two_kernels(series)["scan"].nunique() == 6


def test_a_patient_with_two_scans_is_one_patient(tmp_path):
    rows = [row("100001", kernel, study=study) for kernel in SIEMENS_KERNELS for study in "12"]
    counts = count_kernel_pairs(read_ct_series(write_index(tmp_path, rows), "nlst"))
    assert counts[["scans", "patients"]].to_numpy().tolist() == [[2, 1]]


def test_a_kernel_that_a_scan_has_twice_is_not_guessed_at(tmp_path):
    rows = [row("100001", kernel, number=number) for number, kernel in enumerate(("B30f", "B50f", "B50f", "B80f"))]
    series = read_ct_series(write_index(tmp_path, rows), "nlst")
    assert count_kernel_pairs(series).empty
    assert set(scans_of_two_kernels(series, ("B30f", "B80f"))["kernel"]) == {"B30f", "B80f"}
    with pytest.raises(ValueError, match="no scan has two of the kernels 'B30f', 'B50f'"):
        choose_series(series, SIEMENS_KERNELS, num_patients=1)


def test_the_order_of_kernels_and_of_the_index_does_not_matter(series):
    chosen = choose_series(series, SIEMENS_KERNELS, num_patients=3)
    shuffled = series.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(choose_series(shuffled, SIEMENS_KERNELS[::-1], num_patients=3), chosen)
    assert chosen.groupby("patient")["kernel"].agg(list).tolist() == [["B30f", "B50f"]] * 3


def test_several_pairs_of_kernels_are_asked_for_at_once(series):
    chosen = choose_series(series, (*SIEMENS_KERNELS, "STANDARD", "BONE"), num_patients=9)
    assert chosen["patient"].nunique() == 5  # of 200002 one kernel of two, of 200003 no second one
    assert set(chosen["kernel"]) == {*SIEMENS_KERNELS, "STANDARD", "BONE"}


def test_patients_are_spread_over_scanners_and_the_first_remain(tmp_path):
    series = many_patients(tmp_path, num=12)
    ten = choose_series(series, SIEMENS_KERNELS, num_patients=10)
    assert len(ten) == 20
    assert ten["study_uid"].nunique() == 10
    by_model = ten.drop_duplicates("patient")["model"].value_counts().to_dict()
    assert by_model == {"Volume Zoom": 6, "Sensation 4": 4}  # of twelve and four patients
    pd.testing.assert_frame_equal(choose_series(series, SIEMENS_KERNELS, num_patients=4), ten.head(8))
    patients = ten[ten["model"] == "Volume Zoom"]["study_uid"].str.split(".").str[2].drop_duplicates()
    assert not patients.is_monotonic_increasing  # the order of the archive is that of its sites


@pytest.mark.parametrize(("kernels", "num_patients"), [(("B30f",), 3), (("B30f", "B30f"), 3), (SIEMENS_KERNELS, 0)])
def test_what_is_no_pair_is_refused(series, kernels, num_patients):
    with pytest.raises(ValueError, match="a pair has two kernels and a patient, not 'B30f'"):
        choose_series(series, kernels, num_patients=num_patients)


def test_the_list_downloads_and_says_what_and_whose_the_images_are(index, series, tmp_path):
    chosen = choose_series(series, (*SIEMENS_KERNELS, "STANDARD", "BONE"), num_patients=5)
    write_list(chosen, tmp_path / "list", index=index, collection="nlst")
    lines = (tmp_path / "list" / "download.s5cmd").read_text().splitlines()
    commands = [shlex.split(line) for line in lines if not line.startswith("#")]
    assert [words[0] for words in commands] == ["cp"] * 10
    assert [words[1] for words in commands] == chosen["url"].tolist()
    assert len({words[2] for words in commands}) == 10
    assert commands[0][2] == "patient_0001/B30f/"
    table = pd.read_csv(tmp_path / "list" / "series.csv")
    assert table["series_uid"].tolist() == chosen["series_uid"].tolist()
    citation = (tmp_path / "list" / "citation.md").read_text()
    assert "NLST Research Team & others. (2013). Data from NLST . https://doi.org/10.7937" in citation
    assert "Licence: CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)." in citation
    assert "index 25.0.5" in citation
    assert "10.1148/rg.230180" in citation


def test_no_patient_and_no_date_is_in_the_list(index, series, tmp_path):
    chosen = choose_series(series, SIEMENS_KERNELS, num_patients=5)
    write_list(
        chosen.assign(study_uid="1.2", series_uid="1.3", url="s3://b/u/*"), tmp_path / "list", index=index, collection="nlst"
    )
    text = "".join(path.read_text() for path in (tmp_path / "list").iterdir())
    assert not any(name in text for name in (*SPREAD, "1999"))


def test_a_kernel_makes_no_path(tmp_path):
    rows = [row("200001", kernel, scanner=GE) for kernel in ("BODY FILTER/../x", "STANDARD")]
    index = write_index(tmp_path / "index", rows)
    chosen = choose_series(read_ct_series(index, "nlst"), ("BODY FILTER/../x", "STANDARD"), num_patients=1)
    write_list(chosen, tmp_path / "list", index=index, collection="nlst")
    assert " patient_0001/BODY_FILTER_.._x/\n" in (tmp_path / "list" / "download.s5cmd").read_text()


def test_the_published_index_has_the_pairs_that_it_is_known_for():
    """NLST in release 25, 2026; later releases may add to it."""
    pytest.importorskip("idc_index_data", reason="the index is the package idc-index-data, 80 MB: pip install 'ltdiff[idc]'")
    index = find_index()
    series = read_ct_series(index, "nlst")
    counts = count_kernel_pairs(series).groupby(["kernel_1", "kernel_2"])["scans"].sum()
    known = {("B30f", "B50f"): 15_000, ("BONE", "STANDARD"): 12_000, ("LUNG", "STANDARD"): 2_500, ("C", "D"): 2_300}
    assert {pair: counts[pair] > at_least for pair, at_least in known.items()} == dict.fromkeys(known, True)
    chosen = choose_series(series, SIEMENS_KERNELS, num_patients=6)
    assert chosen["manufacturer"].unique().tolist() == ["SIEMENS"]
    assert chosen["model"].nunique() == 3
    assert set(chosen["licence"]) == {"CC BY 4.0"}
