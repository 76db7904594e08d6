"""What several tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ltdiff", deadline=None)  # a busy machine is no failure
settings.load_profile("ltdiff")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real CT scans; tests that use it are skipped where it is absent."""
    folder = Path(os.environ.get("LTDIFF_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real CT scans at {folder} (set LTDIFF_TEST_DATA)")
    return folder
