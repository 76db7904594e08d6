import json
import logging

import numpy as np
import pytest

from ltdiff.commands.demo import REPORT_FOLDER, SIMULATION, STAGES, TABLES_FILE, _stage, run_demo
from ltdiff.data.rois import mask_rois
from ltdiff.evaluation.markdown import FEW_ROIS
from ltdiff.simulation.phantom import build_phantom
from ltdiff.simulation.shapes import Grid


def test_a_demo_that_is_done_prints_its_tables_again(tmp_path):
    (tmp_path / REPORT_FOLDER).mkdir()
    (tmp_path / REPORT_FOLDER / TABLES_FILE).write_text("| method |\n")
    assert run_demo(tmp_path) == "| method |\n"


def test_stages_are_numbered_and_their_seconds_are_kept_and_added_up(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "times.json").write_text(json.dumps({"pair": 100.0, "train": 7.0}))

    with pytest.raises(ValueError, match="no pairs"), _stage("pair", tmp_path / "times.json"):
        raise ValueError("no pairs")
    with _stage("evaluate", tmp_path / "times.json"):
        pass

    assert [record.getMessage() for record in caplog.records] == [
        f"stage 2 of {len(STAGES)}: {STAGES['pair']}",
        f"stage {len(STAGES)} of {len(STAGES)}: {STAGES['evaluate']}",
    ]
    seconds = json.loads((tmp_path / "times.json").read_text())
    assert seconds["pair"] >= 100
    assert seconds["train"] == 7
    assert list(seconds) == ["pair", "train", "evaluate"]


@pytest.mark.parametrize("patient", range(SIMULATION.num_patients))
def test_every_patient_has_as_many_cross_sections_of_lesions_as_a_ccc_needs(patient):
    half_mm = SIMULATION.thickness_mm(patient) * SIMULATION.num_slices / 2
    middles_mm = 30.0 + np.linspace(-half_mm, half_mm, SIMULATION.num_slices, endpoint=False) + 2.5
    seed = np.random.SeedSequence((SIMULATION.seed, patient)).generate_state(2)[0]
    phantom = build_phantom(
        int(seed), z_range_mm=(middles_mm[0], middles_mm[-1]), num_lesions=SIMULATION.num_lesions, lung=SIMULATION.lung
    )
    grid = Grid(SIMULATION.matrix, SIMULATION.fov_mm / SIMULATION.matrix)
    labels = [phantom.lesion_labels(grid, z_mm=z, thickness_mm=SIMULATION.thickness_mm(patient)) for z in middles_mm]

    assert len(mask_rois(np.stack(labels))) >= FEW_ROIS
