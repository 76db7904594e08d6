"""Where what can be made again is kept."""

from pathlib import Path

import pytest

from ltdiff.system.cache_folder import cache_folder


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LTDIFF_CACHE": "/a/b", "XDG_CACHE_HOME": "/c"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/ltdiff"),
        ({"HOME": "/home/x"}, "/home/x/.cache/ltdiff"),
        ({"LTDIFF_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/home/x"}, "/home/x/.cache/ltdiff"),
    ],
)
def test_a_variable_names_it_or_the_users_cache_has_it(monkeypatch, variables, expected):
    for name in ("LTDIFF_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)
