"""The match of a manifest whose source is noise-reduced, with pairs and without, from the fit to the model folder."""

import numpy as np
import pytest
from bodies import SPACING_MM, make_bodies
from dicom_files import identity
from doses import USUAL_HU, write_doses
from scipy import ndimage

from ltdiff.data.manifest import read_hu
from ltdiff.data.pairing import pair_archive
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import LinearMatch
from ltdiff.inference.procedure import Procedure
from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_reduction import diffuse
from ltdiff.physics.noise_windows import FIRST_RING, NoiseWindows, noise_windows
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import fit_match, fit_match_with_noise
from ltdiff.training.match_model import fit_match_model


def _noise(slices):
    windows = [noise_windows(hu, SPACING_MM, place=noise_place(hu, SPACING_MM)) for hu in slices]
    return NoiseWindows.join(windows).quiet.power[:, FIRST_RING:].mean()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_doses(
        tmp_path_factory.mktemp("reduced"), (USUAL_HU, USUAL_HU), reduce=lambda hu: diffuse(hu, edge_hu=60, num_steps=6)
    )


@pytest.fixture(scope="module")
def match(manifest):
    return fit_match(manifest)


def test_a_noise_reduced_source_gets_the_target_s_noise_by_made_sources(manifest, match):
    assert isinstance(match.noise_match, DrawnNoise)
    assert match.degradation is not None
    assert match.degradation.noise_filters
    by_role = {role: [read_hu(row) for row in rows.to_dict("records")] for role, rows in manifest.groupby("role")}
    matched = LinearMatch(match.kernel_match, match.noise_match).standardize(np.stack(by_role["source"]), SPACING_MM)
    before, after, wanted = (_noise(slices) for slices in (by_role["source"], matched, by_role["target"]))
    assert before < 0.3 * wanted
    assert after == pytest.approx(wanted, rel=0.3)


def test_the_model_folder_keeps_it(manifest, match, tmp_path):
    model = fit_match_model(manifest, out=tmp_path / "run", settings=Settings())
    procedure = Procedure.read(model, InferenceConfig())
    assert procedure.noise_match == match.noise_match
    assert procedure.describe_sampling("fp32") == "the kernel match and drawn noise alone"


def _write_pairs(root, soften):
    """Three patients with kernels B and L of the same slices, of which two train."""
    for patient in range(3):
        target = make_bodies(4, size=160, noise_hu=USUAL_HU, noise_px=0.6, seed=patient)
        scan = {name: stable_uid(name, str(patient)) for name in ("study_uid", "frame_of_reference_uid")}
        for kernel, hu in (("B", np.stack([soften(one) for one in target])), ("L", target)):
            series = stable_uid("series", f"{patient}{kernel}")
            one = identity(patient_id=f"P{patient}", kernel=kernel, slice_thickness_mm=5.0, series_uid=series, **scan)
            folder = root / str(patient) / kernel
            write_ct_series(hu, out_dir=folder, identity=one, spacing_mm=(5.0, *SPACING_MM), origin_mm=(-60.0, -60.0, 0.0))
    return pair_archive(root, target_kernel="L", split="patient:1.0").manifest


@pytest.mark.parametrize(
    ("soften", "is_drawn"),
    [(lambda hu: diffuse(hu, edge_hu=60, num_steps=6), True), (lambda hu: ndimage.gaussian_filter(hu, 0.6), False)],
    ids=["reduced", "linear"],
)
def test_with_pairs_noise_is_drawn_where_validation_pairs_say_so(tmp_path, soften, is_drawn):
    manifest = _write_pairs(tmp_path, soften)
    assert {"train", "val"} <= set(manifest["split"])
    assert isinstance(fit_match_with_noise(manifest).noise_match, DrawnNoise) is is_drawn
