"""Which registered version is the champion: the better one on the same validation pairs, unless somebody forces another."""

import json
import math
import re

import pytest
from tiny_registry import NAMES, record, versions_of
from tiny_run import make_volumes, one_thread, write_pairs  # noqa: F401

from ltdiff.cli import run_ltdiff
from ltdiff.data.manifest import data_fingerprint, read_manifest, write_manifest
from ltdiff.registry import promotion
from ltdiff.registry.versions import list_models
from ltdiff.training.fit_kernel_match import fit_kernel_match
from ltdiff.uncertainty.validation_ccc import ValidationRegions

NUM_ROIS = 12


def promote(*arguments: str) -> int:
    return run_ltdiff(["models", "promote", *arguments])


def all_at(number: int) -> dict[str, int]:
    return dict.fromkeys(NAMES, number)


def test_the_first_is_champion_and_every_new_one_the_candidate(client, tmp_path):
    record(tmp_path / "first")
    assert versions_of(client, "champion") == versions_of(client, "candidate") == all_at(1)
    record(tmp_path / "second", seed=1)
    assert versions_of(client, "champion") == all_at(1)
    assert versions_of(client, "candidate") == all_at(2)


def test_a_better_one_is_promoted_with_its_parts(client, tmp_path, capsys):
    record(tmp_path / "first", glcm=0.90)
    record(tmp_path / "second", glcm=0.97, seed=1)
    assert promote("candidate") == 0
    assert versions_of(client, "champion") == all_at(2)
    shown = capsys.readouterr().out
    assert re.search(r"2 \|\s*0\.9800 \|\s*0\.9900 \|\s*0\.9700 \|\n", shown)
    assert re.search(r"1 \|\s*0\.9450 \|\s*0\.9900 \|\s*0\.9000 \|\n", shown)
    assert "version 2 is the champion now, in place of version 1\n" in shown
    (record_of_it,) = list_models()[0].promotions.values()
    assert record_of_it == {
        "replaced": 1,
        "forced": False,
        "ccc": {"firstorder": 0.99, "glcm": 0.97},
        "champion_ccc": {"firstorder": 0.99, "glcm": 0.90},
        "basis": "on record for the pairs aaaaaaaaaa",
    }


def test_one_as_good_is_not_worse(client, tmp_path):
    record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", glcm=0.9, seed=1)
    assert promote("2") == 0
    assert versions_of(client, "champion") == all_at(2)


@pytest.mark.parametrize("glcm", [0.85, math.nan])
def test_a_worse_one_is_refused_unless_forced(client, tmp_path, capsys, glcm):
    record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", glcm=glcm, seed=1)
    assert promote("2") == 1
    overall, of_class = ("nan", "nan") if math.isnan(glcm) else ("0.9200", "0.8500")
    assert capsys.readouterr().err == (
        f"ltdiff: version 2 is worse than the champion, version 1: CCC {overall} (firstorder 0.9900, glcm {of_class}) "
        "against 0.9450 (firstorder 0.9900, glcm 0.9000), on record for the pairs aaaaaaaaaa; --force promotes it "
        "nevertheless\n"
    )
    assert versions_of(client, "champion") == all_at(1)
    assert list_models()[0].promotions == {}
    assert promote("2", "--force") == 0
    assert "in place of version 1; forced, it is worse" in capsys.readouterr().out
    assert versions_of(client, "champion") == all_at(2)
    (record_of_it,) = list_models()[0].promotions.values()
    assert (record_of_it["replaced"], record_of_it["forced"]) == (1, True)


@pytest.mark.parametrize("second", [{"glcm": 0.99, "pairs": "b" * 64}, {}])
def test_figures_of_other_pairs_are_not_compared(client, tmp_path, capsys, second):
    record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", seed=1, **second)
    assert promote("2") == 1
    assert (
        "version 2 and the champion, version 1, have no validation CCC of the same pairs: --pairs PAIRS"
        in capsys.readouterr().err
    )
    assert versions_of(client, "champion") == all_at(1)
    assert promote("2", "--force") == 0
    assert "version 2 is the champion now, in place of version 1; forced, without" in capsys.readouterr().out
    assert versions_of(client, "champion") == all_at(2)


def test_where_nothing_is_to_be_done_it_is_said(client, tmp_path, capsys):
    record(tmp_path / "first", glcm=0.9)
    assert promote("candidate") == 0
    assert capsys.readouterr().out == "version 1 is the champion already\n"
    client.delete_registered_model_alias("ltdiff", "champion")
    assert promote("1") == 0
    assert capsys.readouterr().out == "version 1 is the champion now; there was none\n"
    assert versions_of(client, "champion") == all_at(1)


def test_a_promotion_that_was_cut_off_is_completed(client, tmp_path, monkeypatch, capsys):
    record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", glcm=0.95, seed=1)
    set_alias = type(client).set_registered_model_alias

    def gone(self, name, *arguments):
        if name == "ltdiff":
            raise ConnectionError("gone")
        set_alias(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.set_registered_model_alias", gone)
        assert promote("2") == 1
    assert "version 2 cannot be promoted: gone" in capsys.readouterr().err
    assert promote("2") == 0
    assert versions_of(client, "champion") == all_at(2)


# --- both scored on the same validation pairs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A manifest whose test pairs lie nowhere: who looks at them fails."""
    path = write_pairs(tmp_path_factory.mktemp("pairs"), volumes=make_volumes(size=64))
    manifest = read_manifest(path)
    write_manifest(manifest.assign(path=manifest["path"].where(manifest["split"] != "test", "/absent.nrrd")), path)
    return path


@pytest.fixture
def two(client, tmp_path, pairs, monkeypatch):
    """Version 1 leaves the source as it is, version 2 sharpens it; what is on record says the opposite, on other pairs."""
    monkeypatch.setitem(ValidationRegions.read.__func__.__kwdefaults__, "num_rois", NUM_ROIS)
    monkeypatch.setattr(promotion, "NUM_WORKERS", 1)
    record(tmp_path / "first", glcm=0.99)
    record(tmp_path / "second", glcm=0.5, seed=1, pairs="b" * 64, kernel_match=fit_kernel_match(read_manifest(pairs)))


def test_both_are_scored_on_the_pairs_that_are_given(client, two, pairs, capsys):
    assert promote("2", "--pairs", str(pairs)) == 0
    shown = capsys.readouterr().out
    assert f"on {NUM_ROIS} regions of the validation pairs {data_fingerprint(read_manifest(pairs))[:10]}\n" in shown
    assert "version 2 is the champion now, in place of version 1\n" in shown
    assert versions_of(client, "champion") == all_at(2)
    (record_of_it,) = list_models()[0].promotions.values()
    assert set(record_of_it["ccc"]) == {"firstorder", "glcm", "glrlm", "ngtdm"}
    assert record_of_it["ccc"]["glcm"] > record_of_it["champion_ccc"]["glcm"] + 0.1
    assert promote("1", "--pairs", str(pairs)) == 1
    refused = capsys.readouterr().err
    assert "version 1 is worse than the champion, version 2: CCC 0." in refused
    assert f"{record_of_it['ccc']['glcm']:.4f}" in refused  # the same figures again
    assert versions_of(client, "champion") == all_at(2)


def test_pairs_that_cannot_validate_are_named(client, two, pairs, tmp_path, capsys):
    manifest = read_manifest(pairs)
    write_manifest(manifest[manifest["split"] == "train"], tmp_path / "pairs.parquet")
    assert promote("2", "--pairs", str(tmp_path / "pairs.parquet")) == 1
    assert f"4 pairs of split 'val' have room for 0 of {NUM_ROIS} regions, and a CCC needs two" in capsys.readouterr().err
    assert promote("2", "--pairs", "absent.parquet") == 1
    assert "absent.parquet: there is no such manifest" in capsys.readouterr().err
    assert versions_of(client, "champion") == all_at(1)


def test_the_record_is_plain_json(client, tmp_path):
    record(tmp_path / "first", glcm=0.9)
    record(tmp_path / "second", glcm=0.95, seed=1)
    assert promote("2") == 0
    tags = client.get_model_version("ltdiff", "2").tags
    (tag,) = [name for name in tags if name.startswith("ltdiff.promoted.")]
    assert re.fullmatch(r"ltdiff\.promoted\.\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", tag)
    assert json.loads(tags[tag])["replaced"] == 1


def test_the_champion_is_rolled_back_one_by_one(client, tmp_path, capsys):
    for number in (1, 2, 3):
        record(tmp_path / str(number), seed=number)
        promote(str(number), "--force")
    assert run_ltdiff(["models", "rollback"]) == 0
    assert capsys.readouterr().out.endswith("version 2 is the champion again, in place of version 3\n")
    assert versions_of(client, "champion") == all_at(2)
    run_ltdiff(["models", "show", "2"])
    assert "in place of version 3, which was rolled back" in capsys.readouterr().out
    run_ltdiff(["models", "rollback"])
    assert versions_of(client, "champion") == all_at(1)
    assert run_ltdiff(["models", "rollback"]) == 1
    assert "there was no champion before version 1" in capsys.readouterr().err
    assert versions_of(client, "candidate") == all_at(3)
