import io
import logging
import sys

import pytest

from ltdiff.system.progress import LINE_EVERY_S, configure_logging, duration, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The clock of tqdm: a list with the seconds that it shows."""
    now_s = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now_s[0])
    return now_s


@pytest.fixture
def start_in_terminal(monkeypatch):
    """A function that has the log written to a terminal, which it returns, and the handlers that were there before."""
    loggers = [logging.getLogger(), logging.getLogger("ltdiff")]
    levels = [one.level for one in loggers]

    def start(*handlers, force=False):
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setattr(logging.getLogger(), "handlers", list(handlers))
        configure_logging(force=force)
        return sys.stderr

    yield start
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


def test_without_a_terminal_there_is_a_line_every_ten_seconds_and_one_at_the_end(clock, caplog):
    caplog.set_level(logging.INFO)
    passed_on = []
    for item in progress(range(95), name="scan", unit="slice"):
        passed_on.append(item)
        clock[0] += 1

    assert passed_on == list(range(95))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "scan: 10 of 95 slices,  1.00slice/s, 01:25 left"
    assert [int(line.split()[1]) for line in lines] == [*range(int(LINE_EVERY_S), 95, int(LINE_EVERY_S)), 95]


def test_where_the_last_item_takes_its_time_the_last_line_comes_once(clock, caplog):
    caplog.set_level(logging.INFO)
    for _ in progress(range(20), name="scan", unit="slice"):
        clock[0] += 1

    assert [record.getMessage().split()[1] for record in caplog.records] == ["10", "20"]


def test_where_nobody_knows_how_many_there_will_be_no_time_is_left(clock, caplog):
    caplog.set_level(logging.INFO)
    for _ in progress((number for number in range(12)), name="features", unit="region"):
        clock[0] += 1

    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["features: 10 regions,  1.00region/s", "features: 12 regions,  1.00region/s"]


def test_what_is_done_soon_writes_no_line(clock, caplog):
    caplog.set_level(logging.INFO)
    with progress(name="scan", unit="slice", total=3) as bar:
        for _ in range(3):
            clock[0] += 1
            bar.update()

    assert bar.n == 3
    assert not caplog.records


def test_in_a_terminal_there_is_a_bar_and_log_lines_stand_above_it(start_in_terminal):
    terminal = start_in_terminal()
    with progress(name="scan", unit="slice", total=4) as bar:
        bar.update()
        logging.getLogger("ltdiff.somewhere").info("halfway")

    before, after = terminal.getvalue().split(" halfway\n")
    assert before.rsplit("\r", 1)[1].count(":") == 2  # nothing but the time of day
    assert "scan:  25%" in after


def test_only_the_package_says_what_it_does_and_others_warn(start_in_terminal):
    terminal = start_in_terminal()
    logging.getLogger("ltdiff.somewhere").info("ours")
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("a warning")

    assert [line.split(" ", 1)[1] for line in terminal.getvalue().splitlines()] == ["ours", "a warning"]


@pytest.mark.parametrize("force", [False, True])
def test_a_worker_replaces_the_handlers_that_it_finds(start_in_terminal, force):
    terminal = start_in_terminal(logging.StreamHandler(other := io.StringIO()), force=force)
    logging.getLogger("ltdiff.somewhere").info("ours")

    assert ("ours" in terminal.getvalue(), "ours" in other.getvalue()) == (force, not force)


def test_a_duration_is_in_minutes_and_seconds():
    assert [duration(seconds) for seconds in (0.4, 65, 3725)] == ["0 min 00 s", "1 min 05 s", "62 min 05 s"]
