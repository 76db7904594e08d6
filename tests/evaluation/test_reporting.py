"""Items of CLEAR and METRICS: all are there, answers are facts of the run, and what a run cannot know is left to the authors."""

import pytest
from scored_scans import score_volume

from ltdiff.evaluation.checklist_items import CLEAR, METRICS
from ltdiff.evaluation.report import write_report
from ltdiff.evaluation.reporting import YOURS, reporting_markdown


@pytest.fixture(scope="module")
def result(collect):
    return collect()


def _answers(text, checklist):
    """The answers of one table by item number."""
    table = text.split(f"## {checklist}\n")[1].split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    return {int(row[0]): row[2].strip() for row in cells}


def test_every_item_is_there_once():
    """58 and 30 items, as the two publications number them."""
    for items, number in ((CLEAR, 58), (METRICS, 30)):
        assert [item.number for item in items] == list(range(1, number + 1))


def test_items_are_answered_from_the_run(result):
    text = reporting_markdown(result)
    clear, metrics = _answers(text, "CLEAR"), _answers(text, "METRICS")
    assert (len(clear), len(metrics)) == (58, 30)
    assert "63 features of firstorder, glcm, glrlm, ngtdm" in clear[27]
    assert "fixed bins of 25 HU" in clear[23]
    assert "`z:0.7`; scored are the 2 slice pairs of `test`, train and test may show the same patients" in metrics[18]
    assert "1 scans of 1 patients (manufacturer: Maker), each with the source kernel (B) and the target kernel (L)" in clear[16]
    assert "pixels of 0.8 mm, slices of 1 to 5 mm" in metrics[6]
    assert "1000 resamples" in metrics[21]
    assert "no second scan, so no noise floor" in clear[52]


def test_what_a_run_cannot_know_is_left_to_the_authors(result):
    text = reporting_markdown(result)
    clear, metrics = _answers(text, "CLEAR"), _answers(text, "METRICS")
    for answers, of_authors in ((clear, (1, 8, 11, 20, 34, 44, 47, 57)), (metrics, (2, 4, 7, 16, 22, 26, 27, 30))):
        assert {answers[number] for number in of_authors} == {YOURS}


def test_every_topic_has_an_answer(result):
    text = reporting_markdown(result)
    for items, checklist in ((CLEAR, "CLEAR"), (METRICS, "METRICS")):
        answers = _answers(text, checklist)
        assert [item.number for item in items if item.topic and answers[item.number] in ("", YOURS)] == []
    assert "{" not in text


def test_split_by_patient_and_a_repeat_are_said(collect, volumes, rois, evaluation_set, tmp_path):
    images, target, _ = volumes
    again = score_volume(images, target_hu=target, spacing_mm=(0.8, 0.7), rois=rois, repeat_hu=images["better"])
    facts = evaluation_set.facts | {"split": {"spec": "patient:0.7", "scored": "test", "num_pairs": 2}, "num_repeated_slices": 2}
    write_report(collect(scores=again, facts=facts), out_dir=tmp_path)
    text, report = (tmp_path / "reporting.md").read_text(), (tmp_path / "report.md").read_text()
    assert "no patient is in two parts" in text
    assert "The target was scanned again in 2 of 2 slices" in text
    assert "## Noise floor" in report
    assert "1.00 (–)" in report  # the method that was taken for the repeat, and two slices give no interval
    for name in ("noise_floor.csv", "repeatability.csv", "robust_features.csv"):
        assert (tmp_path / name).is_file()
    assert "## Noise floor" not in write_report(collect(), out_dir=tmp_path).read_text()
    assert not (tmp_path / "noise_floor.csv").exists()
