"""A folder's file says what is made there: the same goes on, another one is refused by name."""

import json

import pytest

from ltdiff.system.folder_claim import claim

DESCRIPTION = {"method": "linear", "settings": {"seed": 0, "rates": (1, 2), "minutes": None}, "version": "1"}


@pytest.fixture
def path(tmp_path):
    claim(tmp_path / "mine" / "run.json", DESCRIPTION)
    return tmp_path / "mine" / "run.json"


def test_the_same_goes_on_and_changes_nothing(path):
    before = path.stat().st_mtime_ns
    claim(path, DESCRIPTION)
    claim(path, DESCRIPTION | {"settings": {"seed": 0, "rates": [1, 2], "minutes": None}})  # as it is read again
    assert path.stat().st_mtime_ns == before


def test_every_difference_is_named(path):
    settings = DESCRIPTION["settings"] | {"seed": 3, "rates": (1, 5)}
    with pytest.raises(ValueError, match="mine holds work") as error:
        claim(path, DESCRIPTION | {"settings": settings}, remedy="begin again")
    assert str(error.value).endswith(
        "(settings.rates was [1, 2], now [1, 5]; settings.seed was 0, now 3); use the same ones to resume it, or begin again"
    )
    assert json.loads(path.read_text())["settings"]["seed"] == 0


def test_what_is_ignored_is_noted_anew_and_what_else_is_noted_stays(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"changes": ["of before"]}))
    claim(path, DESCRIPTION | {"version": "2"}, ignored=("version",))
    noted = json.loads(path.read_text())
    assert (noted["version"], noted["changes"]) == ("2", ["of before"])


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"is not empty and has no run\.json; choose another folder"):
        claim(tmp_path / "run.json", DESCRIPTION)
    assert {one.name for one in tmp_path.iterdir()} == {".lock", "thesis.txt"}
