"""What a model was trained for, and what speaks against a series."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny_run import make_rows, save_volume

from ltdiff.data.acquisition import AcquisitionInfo, noise_level_hu
from ltdiff.data.read_scan import read_scan
from ltdiff.data.training_domain import NUM_NOISE_SLICES, TrainingDomain
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.scan import Volume

SCOPE = TrainingDomain(
    source_kernels=("B", "Br40"),
    target_kernels=("L",),
    manufacturers=("Philips", "SIEMENS"),
    spacing_mm=(0.7, 0.8),
    slice_thickness_mm=(5.0, 5.0),
    noise_hu=(6.0, 10.0),
)
FITTING = AcquisitionInfo(spacing_mm=(0.75, 0.75), kernel="B", manufacturer="Philips", slice_thickness_mm=5.0, noise_hu=8.0)


def slices_hu(num_slices: int, *, noise_hu: float = 10.0) -> np.ndarray:
    """Soft tissue whose noise grows from slice to slice."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (num_slices, 40, 40)) * noise_hu * np.arange(1, num_slices + 1)[:, None, None]
    return np.rint(40 + noise)


def make_manifest(folder, *, num_slices: int = 4, splits: tuple[str, ...] = ("train", "train", "train", "test")):
    hu = slices_hu(num_slices)
    return pd.concat(
        make_rows(save_volume(hu, folder / f"{role}.nrrd"), shape=hu.shape, role=role, splits=splits)
        for role in ("source", "target")
    )


# --- what the training pairs have in common ---------------------------------------------------------------------------


def test_the_scope_is_that_of_the_training_sources(tmp_path):
    manifest = make_manifest(tmp_path)
    other = make_rows(tmp_path / "absent.nrrd", shape=(4, 40, 40), role="other").assign(kernel="unpaired")
    manifest = pd.concat([manifest, other])
    is_test = manifest["split"] == "test"
    manifest.loc[is_test, ["kernel", "manufacturer", "slice_thickness_mm"]] = ["tested", "Tested", 1.0]
    domain = TrainingDomain.of(manifest)
    assert (domain.source_kernels, domain.target_kernels, domain.manufacturers) == (("soft",), ("sharp",), ("Maker",))
    assert (domain.spacing_mm, domain.slice_thickness_mm) == ((0.7, 0.8), (5.0, 5.0))
    hu = slices_hu(4)
    assert domain.noise_hu == pytest.approx((noise_level_hu(hu[0]), noise_level_hu(hu[2])))


def test_what_the_pairs_do_not_tell_is_unknown(tmp_path):
    manifest = make_manifest(tmp_path).assign(kernel="", manufacturer="", slice_thickness_mm=np.nan)
    manifest["path"] = str(tmp_path / "gone.nrrd")
    domain = TrainingDomain.of(manifest)
    assert domain == TrainingDomain(spacing_mm=(0.7, 0.8))


def test_unreadable_slices_are_named_and_left_out(tmp_path, caplog):
    manifest = make_manifest(tmp_path)
    gone = manifest.assign(path=str(tmp_path / "gone.nrrd"), pair_id=manifest["pair_id"] + " of gone")
    assert TrainingDomain.of(pd.concat([manifest, gone])).noise_hu == TrainingDomain.of(manifest).noise_hu
    assert "left out of the noise level" in caplog.text


def test_few_slices_are_read_for_the_noise_and_from_end_to_end(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("ltdiff.data.training_domain.read_hu", lambda row: read.append(row["slice_index"]) or np.zeros((9, 9)))
    TrainingDomain.of(make_manifest(tmp_path, num_slices=100, splits=("train",) * 100))
    assert len(read) == NUM_NOISE_SLICES
    assert (read[0], read[-1], max(np.diff(read))) == (0, 99, 4)


def test_a_scope_survives_json():
    assert TrainingDomain.from_dict(json.loads(json.dumps(SCOPE.to_dict()))) == SCOPE
    assert TrainingDomain.from_dict(json.loads(json.dumps(TrainingDomain().to_dict()))) == TrainingDomain()


# --- violations -------------------------------------------------------------------------------------------------------


def violations(**changes) -> list[str]:
    acquisition = replace(FITTING, **changes)
    return SCOPE.violations(acquisition)


@pytest.mark.parametrize(
    ("changes", "violation"),
    [
        ({"kernel": "STANDARD"}, "kernel 'STANDARD' instead of 'B' or 'Br40'"),
        ({"kernel": ""}, "no ConvolutionKernel instead of 'B' or 'Br40'"),
        ({"manufacturer": "GE"}, "manufacturer 'GE' instead of 'Philips' or 'SIEMENS'"),
        ({"spacing_mm": (0.75, 0.55)}, "pixel spacing 0.55 to 0.75 mm instead of 0.7 to 0.8 mm"),
        ({"spacing_mm": (1.01, 0.75)}, "pixel spacing 0.75 to 1.01 mm instead of 0.7 to 0.8 mm"),
        ({"slice_thickness_mm": 1.25}, "slice thickness 1.25 mm instead of 5 mm"),
        ({"slice_thickness_mm": 6.3}, "slice thickness 6.3 mm instead of 5 mm"),
        ({"noise_hu": 48.6}, "noise 48.6 HU instead of 6 to 10 HU"),
        ({"noise_hu": 2.9}, "noise 2.9 HU instead of 6 to 10 HU"),
    ],
)
def test_what_lies_outside_is_named(changes, violation):
    assert violations(**changes) == [violation]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel": "Br40"},
        {"manufacturer": "Siemens Healthineers"},  # the scanners of one vendor write several names
        {"manufacturer": "Philips Medical Systems"},
        {"manufacturer": ""},
        {"spacing_mm": (0.561, 0.999)},
        {"slice_thickness_mm": 4.01},
        {"slice_thickness_mm": None},
        {"noise_hu": 3.1},
        {"noise_hu": 19.9},
        {"noise_hu": None},
    ],
)
def test_what_is_near_or_unknown_raises_no_objection(changes):
    assert violations(**changes) == []


def test_a_model_that_knows_its_kernels_only_objects_to_kernels_only():
    narrow = TrainingDomain(source_kernels=("B",))
    assert narrow.violations(FITTING) == []
    assert narrow.violations(replace(FITTING, kernel="C")) == ["kernel 'C' instead of 'B'"]
    assert TrainingDomain().violations(FITTING) == ["kernel 'B' instead of an unknown one"]


# --- acquisition of a series -----------------------------------------------------------------------------------------------


def test_a_series_is_known_by_its_tags_and_its_middle_slice(write_dicom, tmp_path):
    from ltdiff.dicom.series import find_series

    hu = slices_hu(3)
    (series,), _ = find_series(write_dicom(tmp_path / "series", hu))
    acquisition = AcquisitionInfo.of(series)
    assert (acquisition.kernel, acquisition.manufacturer) == (series.kernel, series.manufacturer) == ("B", "GE MEDICAL SYSTEMS")
    assert (acquisition.spacing_mm, acquisition.slice_thickness_mm) == ((0.8, 0.8), 5.0)
    assert acquisition.noise_hu == pytest.approx(noise_level_hu(hu[1]))


def test_a_series_whose_middle_slice_cannot_be_read_has_no_noise_level(make_series):
    assert AcquisitionInfo.of(make_series("absent")).noise_hu is None


def test_a_volume_file_has_the_distance_of_its_slices_for_thickness(tmp_path):
    hu = slices_hu(3).astype(np.float32)
    volume = Volume(hu, (2.5, 0.8, 0.7), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    write_volume(volume, tmp_path / "scan.mha")
    acquisition = AcquisitionInfo.of(read_scan(tmp_path / "scan.mha"))
    assert (acquisition.spacing_mm, acquisition.slice_thickness_mm) == ((0.8, 0.7), 2.5)
    assert (acquisition.kernel, acquisition.manufacturer) == (None, "")
    assert acquisition.noise_hu == pytest.approx(noise_level_hu(hu[1]))


def test_a_real_series_is_within_its_own_scope(real_data):
    from ltdiff.data.pairing import pair_named
    from ltdiff.dicom.series import find_series

    folder = real_data / "lung-pet-ct-dx-a0001"
    domain = TrainingDomain.of(pair_named(folder / "soft_B", folder / "sharp_L", split="z:0.7").manifest)
    assert (domain.source_kernels, domain.target_kernels, domain.manufacturers) == (("B",), ("L",), ("Philips",))
    (source,), _ = find_series(folder / "soft_B")
    (target,), _ = find_series(folder / "sharp_L")
    acquisition = AcquisitionInfo.of(source)
    assert domain.violations(acquisition) == []
    assert [text.split(" ")[0] for text in domain.range_violations(AcquisitionInfo.of(target))] == ["noise"]
    (other,), _ = find_series(real_data / "lidc-small" / "LIDC-IDRI-0001")
    assert domain.violations(AcquisitionInfo.of(other))[:2] == [
        "kernel 'STANDARD' instead of 'B'",
        "manufacturer 'GE MEDICAL SYSTEMS' instead of 'Philips'",
    ]
