"""A risk model's command: how it is read, what it may do wrong, and Sybil's, for which there is an adapter."""

import sys
from pathlib import Path

import pytest

from ltdiff.evaluation.risk_command import NUM_LAST_LINES, RiskCommand, RiskCommandError, RiskScores, parse_scores

ADAPTER = Path(__file__).parents[2] / "docs" / "guide" / "sybil_scores.py"
SYBIL_PREDICT = '''#!{python}
"""A stand-in for sybil-predict: its arguments, and its file of results, without its network."""
import argparse, json, os
parser = argparse.ArgumentParser()
parser.add_argument("image_dir")
parser.add_argument("--output-dir", default="sybil_result", dest="output_dir")
parser.add_argument("--return-attentions", default=False, action="store_true")
parser.add_argument("--write-attention-images", default=False, action="store_true")
parser.add_argument("--file-type", default="auto", dest="file_type", choices={{"dicom", "png", "auto"}})
parser.add_argument("--model-name", default="sybil_ensemble", dest="model_name")
parser.add_argument("-l", "--log", "--loglevel", "--log-level", default="INFO", dest="loglevel")
parser.add_argument("--threads", type=int, default=0)
args = parser.parse_args()
os.makedirs(args.output_dir, exist_ok=True)
files = [name for name in os.listdir(args.image_dir) if not name.startswith(".")]
if not files:
    raise ValueError("no slices")
predictions = {{"predictions": [[len(files) / 100 * year for year in range(1, 7)]]}}
with open(os.path.join(args.output_dir, "prediction_scores.json"), "w") as f:
    json.dump(predictions, f, indent=2)
print(json.dumps(predictions, indent=2))
'''


def command(code: str, *, timeout_minutes: float = 1.0) -> RiskCommand:
    """A Python program that has {dir} and {out} as arguments."""
    return RiskCommand((sys.executable, "-c", code, "{dir}", "{out}"), 60 * timeout_minutes)


@pytest.mark.parametrize(
    ("line", "minutes", "named"),
    [
        ("python model.py {dir}", 1, "needs {out}"),
        ("python model.py {out}", 1, "needs {dir}"),
        ("no-such-program {dir} {out}", 1, "no program 'no-such-program'"),
        ("python 'model {dir} {out}", 1, "no closing quotation"),
        ("python model.py {dir} {out}", 0, "must be above 0, got 0"),
        ("python model.py {dir} {out}", float("nan"), "must be above 0, got nan"),
    ],
)
def test_a_command_that_cannot_work_is_refused_at_once(line, minutes, named):
    with pytest.raises(ValueError, match=named):
        RiskCommand.parse(line, timeout_minutes=minutes)


def test_words_are_those_of_a_shell_and_no_shell_runs_them(tmp_path):
    series = tmp_path / "a scan; touch x"
    code = "import sys; open(sys.argv[2], 'w').write(repr(sys.argv[1:]))"
    parsed = RiskCommand.parse(f'{sys.executable} -c "{code}" {{dir}} {{out}} --in={{dir}}', timeout_minutes=2)
    assert parsed.timeout_s == 120
    assert parsed.run(series, work=tmp_path) == repr([str(series), str(tmp_path / "scores.csv"), f"--in={series}"])


@pytest.mark.parametrize(
    ("text", "scores", "reasons"),
    [
        ("year,score\n1,0.25\n2,1\n", {1: 0.25, 2: 1.0}, {}),
        ("score,name,year\r\n0,x, 6\r\n", {6: 0.0}, {}),
        ("year,score\n1,0.5\n2,\n3\n", {1: 0.5}, {2: "the score is missing", 3: "the score is missing"}),
        ("year,score\n1,1.5\n2,-0.1\n", {}, {1: "the score 1.5 is no probability", 2: "the score -0.1 is no probability"}),
        ("year,score\n1,nan\n2,inf\n", {}, {1: "the score nan is no probability", 2: "the score inf is no probability"}),
        ("year,score\n1,high\n2,0.5\n", {2: 0.5}, {1: "the score 'high' is no number"}),
    ],
)
def test_a_bad_score_costs_itself_alone(text, scores, reasons):
    assert parse_scores(text) == RiskScores(scores, reasons)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "no rows"),
        ("year,score\n", "no rows"),
        ("year,risk\n1,0.5\n", "no rows with the columns year and score"),
        ("year,score\n7,0.5\n", "the year '7', which is none of 1 to 6"),
        ("year,score\nfirst,0.5\n", "the year 'first'"),
        ("year,score\n1,0.5\n1,0.6\n", "year 1 twice"),
        ("\x00\x01", "no rows"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(text, named):
    with pytest.raises(RiskCommandError, match=named):
        parse_scores(text)


@pytest.mark.parametrize(
    ("code", "named", "printed"),
    [
        ("import sys; print('what I did'); sys.exit(3)", "ended with exit code 3", "what I did\n"),
        ("import os; os.kill(os.getpid(), 11)", "ended by signal 11", ""),
        ("pass", "wrote no table", ""),
        ("import sys; open(sys.argv[2], 'w').write('year,score\\n1,' + 200_000 * '0')", "more than 100,000 bytes", ""),
    ],
)
def test_a_command_that_fails_says_how_and_what_it_printed_stays_apart(tmp_path, code, named, printed):
    with pytest.raises(RiskCommandError, match=named) as caught:
        command(code).run(tmp_path, work=tmp_path)
    assert caught.value.output == printed
    assert "did" not in str(caught.value)  # it may name the patient


def test_a_table_may_begin_with_a_byte_order_mark(tmp_path):
    code = "import sys; open(sys.argv[2], 'w', encoding='utf-8-sig').write('year,score\\n1,0.5\\n')"
    assert parse_scores(command(code).run(tmp_path, work=tmp_path)) == RiskScores({1: 0.5}, {})


def test_the_last_lines_are_kept_of_much_that_is_printed(tmp_path):
    with pytest.raises(RiskCommandError) as caught:
        command("import sys; print('\\n'.join(map(str, range(100000)))); sys.exit(1)").run(tmp_path, work=tmp_path)
    assert caught.value.output.splitlines() == [str(n) for n in range(100000 - NUM_LAST_LINES, 100000)]


def test_a_command_that_takes_too_long_is_ended(tmp_path):
    with pytest.raises(RiskCommandError, match=r"took longer than 0.01 minutes and was ended"):
        command("import time; time.sleep(600)", timeout_minutes=0.01).run(tmp_path, work=tmp_path)


@pytest.fixture
def sybil(tmp_path) -> Path:
    """A program that is called as sybil-predict is, and answers as it does."""
    program = tmp_path / "sybil env" / "sybil-predict"
    program.parent.mkdir()
    program.write_text(SYBIL_PREDICT.format(python=sys.executable))
    program.chmod(0o755)
    return program


def test_the_adapter_of_sybil(sybil, tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    for number in range(5):
        (series / f"slice_{number}.dcm").touch()
    words = (sys.executable, str(ADAPTER), "{dir}", "{out}", str(sybil))
    table = RiskCommand(words, 60).run(series, work=tmp_path)
    assert parse_scores(table).scores == pytest.approx({year: 0.05 * year for year in range(1, 7)})


def test_the_adapter_fails_as_sybil_does(sybil, tmp_path):
    empty = tmp_path / "series"
    empty.mkdir()
    with pytest.raises(RiskCommandError, match="exit code 1") as caught:
        RiskCommand((sys.executable, str(ADAPTER), "{dir}", "{out}", str(sybil)), 60).run(empty, work=tmp_path)
    assert "ValueError: no slices" in caught.value.output
