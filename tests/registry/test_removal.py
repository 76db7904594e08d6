"""`ltdiff models delete`: a version goes with its parts; the champion stays."""

from tiny_registry import NAMES, record, versions_of
from tiny_run import one_thread  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.model.model_folder import write_calibration
from ltdiff.registry.versions import list_models
from ltdiff.training.finish_run import record_run


def delete(*arguments: str) -> int:
    return run_ltdiff(["models", "delete", *arguments])


def numbers_of(client, name: str) -> list[int]:
    return sorted(int(each.version) for each in client.search_model_versions(f"name='{name}'"))


def test_a_version_goes_with_its_parts(client, tmp_path, capsys):
    for seed in (1, 2, 3):
        record(tmp_path / str(seed), seed=seed)
    assert delete("2") == 0
    assert capsys.readouterr().out.endswith("version 2 is deleted\n")
    assert {name: numbers_of(client, name) for name in NAMES} == {name: [1, 3] for name in NAMES}
    assert versions_of(client, "candidate") == dict.fromkeys(NAMES, 3)


def test_the_champion_stays(client, tmp_path, capsys):
    record(tmp_path / "run")
    assert delete("champion") == 1
    assert "version 1 is the champion: promote another one before" in capsys.readouterr().err
    assert numbers_of(client, "ltdiff") == [1]


def test_parts_that_another_version_has_stay(client, tmp_path):
    """A model that is calibrated anew is a version with the same parts."""
    model = record(tmp_path / "run", glcm=0.9)
    write_calibration(model, {"output": "mean", "validation_ccc": {"mean": {"glcm": 0.8}}, "data_fingerprint": "b" * 64})
    record_run(tmp_path / "run")
    assert [each.number for each in list_models()] == [2, 1]
    assert delete("2") == 0
    assert {name: numbers_of(client, name) for name in NAMES} == {name: [1] for name in NAMES}
