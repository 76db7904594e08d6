"""Each pair of kernels has a champion of its own; `champion` alone is what it was where there is one pair."""

import logging
import shutil

import pytest
from tiny_registry import NAMES, record, versions_of
from tiny_run import one_thread  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.commands.command_line import resolve_models
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.models import load_models
from ltdiff.registry.client import open_client
from ltdiff.registry.kernel_pair import SOURCE_TAG, TARGET_TAG
from ltdiff.registry.versions import download, list_models

SIEMENS, GE = ("Br40", "Bl64"), ("STANDARD", "LUNG")
OF_SIEMENS, OF_GE = "champion-Br40_to_Bl64", "champion-STANDARD_to_LUNG"


def models(*arguments: str) -> int:
    return run_ltdiff(["models", *arguments])


def all_at(number: int) -> dict[str, int]:
    return dict.fromkeys(NAMES, number)


def forget_pairs(client) -> None:
    """A registry as an earlier ltdiff has made it."""
    for model in list_models():
        for tag in (SOURCE_TAG, TARGET_TAG):
            client.delete_model_version_tag("ltdiff", str(model.number), tag)
        for alias in model.aliases:
            if alias.startswith("champion-"):
                for name in NAMES:
                    client.delete_registered_model_alias(name, alias)


@pytest.fixture(scope="module")
def registered(database, tmp_path_factory):
    """A registry where versions 1 and 3 are for one pair of kernels, 2 and 4 for another, whose new one is worse."""
    folder = tmp_path_factory.mktemp("registered")
    copy = shutil.copyfile(database, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{copy}")
        for number, (kernels, glcm) in enumerate([(SIEMENS, 0.9), (GE, 0.8), (SIEMENS, 0.95), (GE, 0.7)], start=1):
            record(folder / str(number), seed=number, kernels=kernels, glcm=glcm, pairs=kernels[0][0].lower() * 64)
    return copy


@pytest.fixture
def client(registered, tmp_path, monkeypatch):
    """MLflow's client of a copy; files lie where they were."""
    uri = f"sqlite:///{shutil.copyfile(registered, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with open_client(uri) as client:
        yield client


def test_the_first_of_each_pair_is_its_champion(client, capsys):
    assert versions_of(client, "champion") == versions_of(client, OF_SIEMENS) == all_at(1)
    assert versions_of(client, OF_GE) == all_at(2)
    assert client.get_model_version("ltdiff", "2").tags[SOURCE_TAG] == '["STANDARD"]'
    assert client.get_model_version("ltdiff", "2").description == "STANDARD to LUNG"
    assert models("list") == 0
    _, _, *rows = ([cell.strip() for cell in line.split("|")[1:4]] for line in capsys.readouterr().out.splitlines())
    assert rows == [
        ["4", "candidate", "'STANDARD' to 'LUNG'"],
        ["3", "", "'Br40' to 'Bl64'"],
        ["2", OF_GE, "'STANDARD' to 'LUNG'"],
        ["1", f"champion, {OF_SIEMENS}", "'Br40' to 'Bl64'"],
    ]


def test_a_version_is_compared_with_the_champion_for_its_kernels(client, capsys):
    assert models("promote", "candidate") == 1
    assert "version 4 is worse than the champion for 'STANDARD' to 'LUNG', version 2: CCC" in capsys.readouterr().err
    assert models("promote", "candidate", "--force") == 0
    assert models("promote", "3") == 0
    assert "version 3 is the champion for 'Br40' to 'Bl64' now, in place of version 1\n" in capsys.readouterr().out
    assert versions_of(client, "champion") == versions_of(client, OF_SIEMENS) == all_at(3)
    assert versions_of(client, OF_GE) == all_at(4)


def test_rollback_and_delete_are_for_one_pair(client, capsys):
    for number in ("3", "4"):
        models("promote", number, "--force")
    assert models("rollback") == 1
    assert f"there are several champions, name the one that is meant: {OF_GE}, {OF_SIEMENS}\n" in capsys.readouterr().err
    assert models("rollback", OF_GE) == 0
    assert "version 2 is the champion for 'STANDARD' to 'LUNG' again, in place of version 4\n" in capsys.readouterr().out
    assert (versions_of(client, OF_GE), versions_of(client, "champion")) == (all_at(2), all_at(3))
    assert models("rollback", "1") == 1
    assert "version 1 is not the champion for 'Br40' to 'Bl64': there is nothing to roll back" in capsys.readouterr().err
    for number in ("2", "3"):
        assert models("delete", number) == 1
    assert "version 2 is the champion for 'STANDARD' to 'LUNG': promote another one before" in capsys.readouterr().err
    assert models("delete", "1") == models("delete", "4") == 0


def test_a_registry_without_tags_goes_on_working(client, tmp_path, capsys):
    forget_pairs(client)
    assert [model.kernels.sources for model in list_models()] == [("STANDARD",), ("Br40",)] * 2
    assert models("promote", "4") == 0
    assert "version 4 is the champion for 'STANDARD' to 'LUNG' now; there was none\n" in capsys.readouterr().out
    record(tmp_path / "5", seed=5, kernels=SIEMENS, glcm=0.99, pairs="b" * 64)
    assert versions_of(client, "champion") == all_at(1)
    assert models("promote", "5") == 0
    assert versions_of(client, "champion") == versions_of(client, OF_SIEMENS) == all_at(5)
    assert versions_of(client, OF_GE) == all_at(4)


def test_a_champion_that_somebody_else_has_set_counts(client):
    client.set_registered_model_alias("ltdiff", "champion", "3")
    assert models("promote", "1") == 1
    client.set_registered_model_alias("ltdiff", "champion", "4")  # of the other pair
    assert models("delete", "4") == models("delete", "2") == 1
    assert models("promote", "3") == 0
    assert client.get_model_version_by_alias("ltdiff", "champion").version == 4


def test_the_champion_alone_is_said_to_be_one_of_several(client, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert download("models:/ltdiff@champion", out_dir=tmp_path / "cache").name.startswith("ltdiff-1-")
        download(f"models:/ltdiff@{OF_GE}", out_dir=tmp_path / "cache")
    assert caplog.messages == [f"the champion is version 1, for 'Br40' to 'Bl64'; those for other kernels are {OF_GE}"]


def test_all_champions_are_models_for_an_archive(client, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    models("promote", "3")
    folder = resolve_models("models:/ltdiff")
    found = {each.domain.source_kernels: each.folder.name for each in load_all(folder)}
    assert {kernels: name.rpartition("-")[0] for kernels, name in found.items()} == {
        ("Br40",): "ltdiff-3",
        ("STANDARD",): "ltdiff-2",
    }
    assert resolve_models("models:/ltdiff") == folder
    assert resolve_models("models:/ltdiff@champion").name.startswith("ltdiff-3-")


def load_all(folder):
    return [each for target in ("Bl64", "LUNG") for each in load_models(folder, InferenceConfig(), target_kernel=target)]
