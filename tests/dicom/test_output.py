"""A folder is there complete or not at all."""

import pytest

from ltdiff.dicom.output import complete_folder
from ltdiff.durable import PARTIAL_PREFIX, remove_partial_folders


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with complete_folder(tmp_path / "out" / "a") as growing:
        (growing / "1").write_text("1")
        assert not (tmp_path / "out" / "a").exists()
        assert growing.parent.name.startswith(PARTIAL_PREFIX)
        assert growing.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    assert (tmp_path / "out" / "a" / "1").read_text() == "1"


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), complete_folder(tmp_path / "a"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_whoever_is_first_wins(tmp_path):
    with complete_folder(tmp_path / "a") as growing:
        (growing / "late").touch()
        with complete_folder(tmp_path / "a") as other:
            (other / "first").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["first"]


def test_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / f"{PARTIAL_PREFIX}abc" / "uid").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    remove_partial_folders(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
