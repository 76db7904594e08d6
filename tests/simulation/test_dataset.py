"""`simulate`: valid pairs with exact masks, the same every time, resumed where they stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ltdiff.data.manifest import read_hu
from ltdiff.data.pairing import find_pairs, pair_archive
from ltdiff.data.repeats import add_repeats
from ltdiff.dicom.pixels import read_slice_hu
from ltdiff.dicom.segmentation import read_segmentation
from ltdiff.dicom.series import find_series
from ltdiff.simulation import dataset
from ltdiff.simulation.dataset import TARGET_NAME, simulate
from ltdiff.simulation.reconstruction import scan_patient


@pytest.fixture(scope="module")
def out(tmp_path_factory, small_config):
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, config=small_config)
    return folder


def file_bytes(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("slice_*.dcm"))}


def test_every_patient_is_a_pair_that_pairing_finds(out, small_config):
    series, _ = find_series(out)
    pairs, issues = find_pairs(series, target_kernel="sharper")
    assert issues == []
    assert len(pairs) == small_config.num_patients
    assert {(pair.source.kernel, pair.target.kernel) for pair in pairs} == {("softer", "sharper")}
    assert len({pair.source.patient_key for pair in pairs}) == small_config.num_patients


def test_files_hold_what_was_scanned(out, small_config):
    scan = scan_patient(small_config, 0)
    for name, hu in (("source", scan.source_hu), ("target", scan.target_hu)):
        (series,), _ = find_series(out / "patient_000" / name)
        np.testing.assert_array_equal(np.stack([read_slice_hu(s.path) for s in series.slices]), hu)
        assert series.spacing_mm == scan.spacing_mm[1:]
        np.testing.assert_allclose(series.slices[0].position_mm, scan.origin_mm, atol=1e-5)


def test_lesions_are_described_and_masked(out, small_config):
    for patient in range(small_config.num_patients):
        folder = out / f"patient_{patient:03d}"
        (target,), _ = find_series(folder / "target")
        described = json.loads((folder / "lesions.json").read_text())
        labels = scan_patient(small_config, patient).labels
        assert [lesion["num_voxels"] for lesion in described] == [int((labels == lesion["label"]).sum()) for lesion in described]
        if labels.any():
            found = {number: mask for number, _, mask in read_segmentation(folder / "lesions.dcm", target)}
            assert found.keys() == set(np.unique(labels[labels > 0]))
            for number, mask in found.items():
                np.testing.assert_array_equal(mask, labels == number)
    assert (out / "patient_000" / "lesions.dcm").exists()


def test_the_same_configuration_gives_the_same_files(out, tmp_path, small_config):
    simulate(tmp_path, config=replace(small_config, num_patients=1))
    assert file_bytes(tmp_path / "patient_000") == file_bytes(out / "patient_000")


def test_a_second_run_has_nothing_to_do(out, small_config, monkeypatch):
    monkeypatch.setattr(dataset, "simulate_patient", None)
    folders = simulate(out, config=small_config)
    assert [folder.name for folder in folders] == ["patient_000", "patient_001"]


def test_a_run_that_failed_is_taken_up(out, tmp_path, small_config, monkeypatch):
    write_lesions = dataset._write_lesions

    def fail_at_the_second(scan, folder):
        if folder.name == "patient_001":
            raise OSError("disk full")
        write_lesions(scan, folder)

    monkeypatch.setattr(dataset, "_write_lesions", fail_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        simulate(tmp_path, config=small_config)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["patient_000", "simulation.json"]
    before = (tmp_path / "patient_000" / "lesions.json").stat().st_mtime_ns

    monkeypatch.undo()
    (tmp_path / ".partial-killed").mkdir()  # as a killed run leaves
    simulate(tmp_path, config=small_config)
    assert (tmp_path / "patient_000" / "lesions.json").stat().st_mtime_ns == before
    assert file_bytes(tmp_path) == file_bytes(out)
    assert not (tmp_path / ".partial-killed").exists()


def test_several_processes_write_the_same(out, tmp_path, small_config):
    simulate(tmp_path, config=small_config, num_workers=2)
    assert file_bytes(tmp_path) == file_bytes(out)


@pytest.mark.parametrize(
    ("change", "named"), [({"seed": 7}, "seed was 0, now 7"), ({"slice_spacing_mm": 2.5}, r"slice_spacing_mm was None, now 2\.5")]
)
def test_another_configuration_is_refused(out, small_config, change, named):
    with pytest.raises(ValueError, match=named):
        simulate(out, config=replace(small_config, **change))


def test_more_patients_can_be_added(tmp_path, small_config):
    simulate(tmp_path, config=replace(small_config, num_patients=1))
    folders = simulate(tmp_path, config=small_config)
    assert all(folder.is_dir() for folder in folders)
    assert len(folders) == 2


def test_a_second_scan_repeats_the_first(out, tmp_path, small_config):
    """Same patient, kernel and places with another noise: a repeat of the target, in a frame of reference that both share."""
    again = simulate(tmp_path / "again", config=replace(small_config, num_patients=1, repeat=1))
    manifest = pair_archive(out, target_kernel="sharper", split="z:0.5").manifest
    repeats = add_repeats(manifest, [again[0] / TARGET_NAME])[0].query("role == 'repeat'")
    assert len(repeats) == 4
    first = manifest[manifest["pair_id"].isin(repeats["pair_id"]) & (manifest["role"] == "target")]
    rows = zip(first.to_dict("records"), repeats.to_dict("records"), strict=True)
    differences = [read_hu(one) - read_hu(other) for one, other in rows]
    assert np.std(differences) > 1
