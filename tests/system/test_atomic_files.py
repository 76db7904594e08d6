"""Files and folders that are whole or not there."""

import os
from pathlib import Path

import pytest

from ltdiff.system import atomic_files
from ltdiff.system.atomic_files import (
    PARTIAL_PREFIX,
    complete_folder,
    finish_folder,
    open_to_append,
    remove_partial_folders,
    replace_file,
    write_text,
)


@pytest.fixture
def order(monkeypatch):
    """Of what was flushed to the disk (by name) and what was renamed (to what)."""
    done = []
    sync, replace = atomic_files.sync, os.replace
    monkeypatch.setattr(atomic_files, "sync", lambda path: (done.append(("sync", path.name)), sync(path)))
    rename = os.rename
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("name", Path(b).name)), replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append(("name", Path(b).name)), rename(a, b)))
    return done


def test_a_file_has_its_name_when_it_is_on_the_disk(tmp_path, order):
    write_text(tmp_path / "note.txt", "old")
    write_text(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "new"
    assert [what for what, _ in order] == ["sync", "name", "sync"] * 2
    assert order[2] == ("sync", tmp_path.name)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "note.txt", "old")

    def fail(path):
        path.write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        replace_file(tmp_path / "note.txt", fail)
    assert (tmp_path / "note.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_folder_has_its_name_when_all_of_it_is_on_the_disk(tmp_path, order):
    partial = tmp_path / "growing"
    partial.mkdir()
    for name in ("a", "b"):
        (partial / name).write_text(name)
    finish_folder(partial, tmp_path / "done")
    assert {path.name for path in (tmp_path / "done").iterdir()} == {"a", "b"}
    assert not partial.exists()
    assert {name for _, name in order[:3]} == {"a", "b", "growing"}
    assert order[3:] == [("name", "done"), ("sync", tmp_path.name)]


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with complete_folder(tmp_path / "out" / "a") as growing:
        (growing / "1").write_text("1")
        assert not (tmp_path / "out" / "a").exists()
        assert growing.parent.name.startswith(PARTIAL_PREFIX)
        assert growing.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
    assert (tmp_path / "out" / "a" / "1").read_text() == "1"


def test_a_folder_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), complete_folder(tmp_path / "a"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_write_a_folder_the_first_wins(tmp_path):
    with complete_folder(tmp_path / "a") as growing:
        (growing / "late").touch()
        with complete_folder(tmp_path / "a") as other:
            (other / "first").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["first"]


def test_what_killed_writers_left_is_removed(tmp_path):
    (tmp_path / f"{PARTIAL_PREFIX}1" / "series").mkdir(parents=True)
    (tmp_path / "kept").mkdir()
    remove_partial_folders(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    for target in ("victim", "nowhere"):
        (tmp_path / "note.txt").unlink(missing_ok=True)
        (tmp_path / "note.txt").symlink_to(tmp_path / target)
        write_text(tmp_path / "note.txt", "new")
        assert not (tmp_path / "note.txt").is_symlink()
        assert (tmp_path / "note.txt").read_text() == "new"
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_written_where_nobody_else_can_plant_a_link(tmp_path):
    def write(path):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.parent.name.startswith(PARTIAL_PREFIX)  # so that what a killed process leaves is removed
        path.write_text("new")

    mask = os.umask(0o022)
    replace_file(tmp_path / "note.txt", write)
    os.umask(mask)
    assert (tmp_path / "note.txt").stat().st_mode & 0o777 == 0o644


def test_lines_are_appended_to_a_file_of_its_own_alone(tmp_path):
    for line in ("one\n", "two\n"):
        with open_to_append(tmp_path / "lines") as file:
            file.write(line)
    assert (tmp_path / "lines").read_text() == "one\ntwo\n"
    (tmp_path / "link").symlink_to(tmp_path / "lines")
    with pytest.raises(ValueError, match="link is a link"):
        open_to_append(tmp_path / "link")
