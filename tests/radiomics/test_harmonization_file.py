"""A saved harmonization is the one that was fitted, and a damaged file is no harmonization."""

import json
import struct

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from scanner_tables import scanner_table

from ltdiff.radiomics.feature_harmonization import fit_harmonization
from ltdiff.radiomics.feature_table import Columns
from ltdiff.radiomics.harmonization_file import FORMAT, _checksum, load_harmonization, save_harmonization

METHODS = ("combat", "covbat", "nested", "longitudinal")


def _save(method, folder, covariates=("age", "sex")):
    table, _ = scanner_table(60, num_scans=2)
    table["kernel µ"] = np.where(np.arange(len(table)) % 3, "sharp", "soft")
    batches, kept = (("scanner", "kernel µ"), ()) if method == "nested" else (("scanner",), ("kernel µ",))
    fitted = fit_harmonization(table, Columns(batches, covariates, "patient", (*kept, "age")), method=method)
    path = folder / f"{method}.safetensors"
    save_harmonization(fitted, path)
    return fitted, path


@pytest.mark.parametrize("covariates", [("age", "sex"), ()])
@pytest.mark.parametrize("method", METHODS)
def test_what_was_saved_does_what_was_fitted(method, covariates, tmp_path):
    fitted, path = _save(method, tmp_path, covariates)
    loaded = load_harmonization(path)
    new, _ = scanner_table(30, seed=1, num_scans=2)
    new["kernel µ"] = "soft"
    pd.testing.assert_frame_equal(loaded.apply(new, mark="x"), fitted.apply(new, mark="x"), check_exact=True)
    for name in ("method", "features", "batches", "num_patients", "covariates", "patient", "reference", "unchanged"):
        assert getattr(loaded, name) == getattr(fitted, name)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_no_patient_is_in_the_file(tmp_path):
    for method in METHODS:
        _, path = _save(method, tmp_path)
        assert b"s0p" not in path.read_bytes()


def test_a_truncated_file_is_refused(tmp_path):
    _, path = _save("covbat", tmp_path)
    content = path.read_bytes()
    for length in (0, 4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"covbat.safetensors is no harmonization, or is damaged"):
            load_harmonization(path)


def test_a_changed_byte_is_noticed(tmp_path):
    _, path = _save("combat", tmp_path)
    content = bytearray(path.read_bytes())
    for place in (-1, -200, content.index(b"glcm_3") + 5):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="does not have the checksum"):
            load_harmonization(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    with pytest.raises(ValueError, match="there is no such file"):
        load_harmonization(path)
    save_file({"weights": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="no harmonization of a kind that this version"):
        load_harmonization(path)
    path.write_text("patient,scanner\n1,A\n")
    with pytest.raises(ValueError, match="is no harmonization, or is damaged"):
        load_harmonization(path)


def test_a_description_that_lacks_something_is_refused(tmp_path):
    _, path = _save("combat", tmp_path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    description = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][FORMAT])["description"]
    for change in ({"method": "magic"}, {"features": None}, {"batches": {"scanner": ["A", "B"], "kernel": ["x"]}}):
        changed = description | change
        save_file({}, path, metadata={FORMAT: json.dumps({"sha256": _checksum(changed, {}), "description": changed})})
        with pytest.raises(ValueError, match="does not describe a harmonization"):
            load_harmonization(path)
