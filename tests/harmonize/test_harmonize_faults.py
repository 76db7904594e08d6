"""An archive that is harmonized, killed and gone on with elsewhere: what was fitted stays, and the rest is made."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
from bodies import make_bodies
from dicom_files import identity

from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.model.model_folder import weights_sha256

REPOSITORY = Path(__file__).parents[2]
KERNELS = {"B": (1.0, 18.0), "C": (0.85, 24.0), "L": (0.7, 30.0)}
"""Blur in pixels and noise in HU of each."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two source kernels and the target's, two patients each."""
    root = tmp_path_factory.mktemp("archive")
    for number, (kernel, (blur_px, noise_hu)) in enumerate(KERNELS.items()):
        for patient in (2 * number, 2 * number + 1):
            names = ("study_uid", "frame_of_reference_uid", "series_uid")
            one = identity(patient_id=f"P{patient}", kernel=kernel, **{name: stable_uid(name, str(patient)) for name in names})
            hu = make_bodies(3, size=192, seed=patient, blur_px=blur_px, noise_hu=noise_hu)
            folder = root / f"{kernel}{patient}"
            write_ct_series(hu, out_dir=folder, identity=one, spacing_mm=(5.0, 0.8, 0.8), origin_mm=(-60.0, -60.0, 0.0))
    return root


def _start(archive, place):
    command = [*place.python, REPOSITORY / "jobs" / "harmonize.py", archive, "--target_kernel", "L", "--out", place.argument]
    return subprocess.Popen(list(map(str, command)), cwd=REPOSITORY)


def _of_models(names):
    return {name for name in names if name.endswith("run/model/calibration.json")}


def test_killed_after_the_first_match_it_goes_on_elsewhere(archive, place):
    process = _start(archive, place)
    deadline_s = time.monotonic() + 200
    while not _of_models(place.names()):
        assert time.monotonic() < deadline_s
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    fitted = _of_models(place.names())
    place.move()
    assert _start(archive, place).wait(timeout=250) == 0
    out = place.result()
    models = {path.parts[-3]: weights_sha256(path) for path in out.glob("protocols/*/run/model")}
    assert len(models) == 2
    derived, _ = find_series(out / "images")
    assert sorted(one.num_slices for one in derived) == [3] * 4
    assert fitted <= _of_models(place.names())
    assert len(list(out.glob("reports/*/report.md"))) == 2
