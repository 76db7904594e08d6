"""The match of a manifest without pairs whose source is noise-reduced, from the fit to the model folder."""

import numpy as np
import pytest
from bodies import SPACING_MM
from doses import USUAL_HU, write_doses

from ltdiff.data.manifest import read_hu
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import LinearMatch
from ltdiff.inference.procedure import Procedure
from ltdiff.model.drawn_noise import DrawnNoise
from ltdiff.physics.noise_place import noise_place
from ltdiff.physics.noise_reduction import diffuse
from ltdiff.physics.noise_windows import FIRST_RING, NoiseWindows, noise_windows
from ltdiff.training.config import Settings
from ltdiff.training.fit_kernel_match import fit_match
from ltdiff.training.match_model import fit_match_model


def _noise(slices):
    windows = [noise_windows(hu, SPACING_MM, place=noise_place(hu, SPACING_MM)) for hu in slices]
    return NoiseWindows.join(windows).quiet.power[:, FIRST_RING:].mean()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_doses(
        tmp_path_factory.mktemp("reduced"), (USUAL_HU, USUAL_HU), reduce=lambda hu: diffuse(hu, edge_hu=60, num_steps=6)
    )


def test_a_noise_reduced_source_gets_the_target_s_noise_by_made_sources(manifest):
    match = fit_match(manifest)
    assert isinstance(match.noise_match, DrawnNoise)
    assert match.degradation is not None
    assert match.degradation.noise_filters
    by_role = {role: [read_hu(row) for row in rows.to_dict("records")] for role, rows in manifest.groupby("role")}
    matched = LinearMatch(match.kernel_match, match.noise_match).standardize(np.stack(by_role["source"]), SPACING_MM)
    before, after, wanted = (_noise(slices) for slices in (by_role["source"], matched, by_role["target"]))
    assert before < 0.3 * wanted
    assert after == pytest.approx(wanted, rel=0.3)


def test_the_model_folder_keeps_it(manifest, tmp_path):
    model = fit_match_model(manifest, out=tmp_path / "run", settings=Settings())
    assert Procedure.read(model, InferenceConfig()).noise_match == fit_match(manifest).noise_match
