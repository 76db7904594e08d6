"""Features of what a model makes of a scan: of the output that validation chose, or their mean over samples."""

import json
from functools import partial

import numpy as np
import pytest
from dicom_files import identity
from tiny_run import SPACING_MM, make_volumes, save_tiny_model, save_volume, write_pairs

from ltdiff.data.manifest import read_manifest
from ltdiff.data.read_scan import read_scan
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.evaluation.scoring import Expectation
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.model_folder import CALIBRATION_FILE, weights_sha256
from ltdiff.radiomics.extract import extract_radiomics
from ltdiff.radiomics.feature_sets import CATALOGUE
from ltdiff.uncertainty.calibration import calibrate_run
from ltdiff.uncertainty.standardized_volumes import describe_volumes, standardized_volumes
from ltdiff.uncertainty.validation_ccc import ValidationRegions

CONCERNED = np.array([False, True, True, False, False, False])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a calibrated model, a scan and a mask that concerns two of its slices."""
    folder = tmp_path_factory.mktemp("volumes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ValidationRegions.read.__func__.__kwdefaults__, "num_rois", 20)
        model = save_tiny_model(folder / "model", source_kernel="soft", target_kernel="sharp")
        calibrate_run(read_manifest(write_pairs(folder / "data")), model=model, num_workers=1)
    source, _ = make_volumes()
    save_volume(source, folder / "scan.nrrd")
    mask = np.zeros(source.shape)
    mask[1:3, 10:30, 12:34] = 1
    save_volume(mask, folder / "mask.nrrd")
    return folder


def _choose(folder, *, output, best):
    path = folder / "model" / CALIBRATION_FILE
    content = json.loads(path.read_text())
    ccc = {name: {"glcm": 0.9 if name == best else 0.5} for name in ("mean", "sample", "match", "expected")}
    path.write_text(json.dumps(content | {"output": output, "validation_ccc": ccc}))


def _volumes(folder):
    return list(standardized_volumes(CONCERNED, series=folder / "scan.nrrd", model=folder / "model", force=True))


def test_the_expectation_is_over_samples_of_the_slices_that_are_concerned(folder):
    _choose(folder, output="mean", best="expected")
    volumes = _volumes(folder)
    assert len(volumes) == Expectation.NUM_SAMPLES
    source, _ = make_volumes()
    assert all((volume[~CONCERNED] == source[~CONCERNED]).all() for volume in volumes)
    assert (volumes[0] != volumes[1])[CONCERNED].any()


@pytest.mark.parametrize("output", ["mean", "sample"])
def test_where_an_output_is_better_it_is_measured_alone(folder, output):
    _choose(folder, output=output, best=output)
    (volume,) = _volumes(folder)
    scan = read_scan(folder / "scan.nrrd")
    one = Standardizer.load(folder / "model", InferenceConfig(output=output))
    expected = one.standardize(scan.read_hu(), scan.spacing_mm)
    np.testing.assert_array_equal(volume[CONCERNED], expected[CONCERNED])


def test_features_are_the_mean_over_the_volumes(folder):
    _choose(folder, output="mean", best="expected")
    volumes = _volumes(folder)
    measure = partial(extract_radiomics, folder / "scan.nrrd", folder / "mask.nrrd", feature_set=CATALOGUE, only=["ID"])
    found = measure(standardize=lambda concerned: iter(volumes))
    singles = [measure(standardize=lambda *scan, v=v: [v]) for v in volumes]
    names = [name for name in found.columns if name.startswith("ID")]
    assert names
    np.testing.assert_allclose(found[names].iloc[0], np.mean([one[names].iloc[0] for one in singles], axis=0), rtol=1e-9)


def test_a_scan_that_the_model_was_not_trained_for_is_refused(folder, tmp_path):
    source, _ = make_volumes()
    another = identity(kernel="another")
    write_ct_series(source, out_dir=tmp_path / "series", identity=another, spacing_mm=SPACING_MM, origin_mm=(0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="outside what the model was trained for"):
        list(standardized_volumes(CONCERNED, series=tmp_path / "series", model=folder / "model", force=False))


def test_a_report_says_from_what_the_image_was_computed(folder, tmp_path):
    model = folder / "model"
    series = write_ct_series(
        make_volumes()[0], out_dir=tmp_path / "ct", identity=identity(kernel="another"), spacing_mm=SPACING_MM
    )
    _choose(folder, output="mean", best="expected")
    text = describe_volumes(series=series, model=model)
    assert text.startswith(
        "Measured is no image of this study, but one computed from the series: Kernel standardization by ltdiff"
    )
    assert "not for diagnostic use; outside what the model was trained for: " in text
    assert "From kernel another to kernel sharp" in text
    assert f"weights sha256 {weights_sha256(model)}" in text
    assert text.endswith("Features are means over 8 samples around that image.")
    _choose(folder, output="mean", best="mean")
    assert "samples" not in describe_volumes(series=series, model=model)
