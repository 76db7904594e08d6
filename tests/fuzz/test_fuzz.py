"""The first hundredth of the fuzzer's cases; `make fuzz` runs all of them."""

from fuzz_run import run_cases


def test_broken_files_are_read_or_refused_with_a_sentence():
    assert run_cases(range(200)) == {}
