"""What `from ltdiff import …` gives: the example of the README, and nothing heavy before it is asked for."""

import subprocess
import sys

import numpy as np
import pytest
from tiny_run import save_tiny_model, write_pairs

import ltdiff


def test_a_slice_is_standardized(tmp_path):
    from ltdiff import Standardizer, load_model

    folder = save_tiny_model(tmp_path / "model", source_kernel="soft", target_kernel="sharp")
    hu = np.zeros((2, 48, 40), np.float32)
    standardized = Standardizer.load(folder).standardize(hu, (0.7, 0.7))
    assert standardized.shape == hu.shape
    assert standardized.dtype == np.float32
    model, _ = load_model(folder)
    assert model.config.autoencoder.num_levels > 1


def test_a_manifest_is_read(tmp_path):
    from ltdiff import read_manifest

    assert set(read_manifest(write_pairs(tmp_path))["role"]) == {"source", "target"}


def test_all_that_is_public_can_be_imported():
    for name in ltdiff.__all__:
        assert getattr(ltdiff, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ltdiff.nothing


def test_the_package_alone_imports_nothing_heavy():
    code = "import ltdiff, sys; print({'torch', 'numpy', 'pydicom', 'ray', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
