"""The user's own folder for what can be made again at any time."""

import os
from pathlib import Path

VARIABLE = "LTDIFF_CACHE"
"""Environment variable that names another folder."""


def cache_folder() -> Path:
    """Where it is: `LTDIFF_CACHE`, or `ltdiff` in the user's cache folder (XDG_CACHE_HOME, ~/.cache).

    Raises:
        OSError: the user has no home.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).absolute()
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ltdiff")
    except RuntimeError as error:
        raise FileNotFoundError(0, str(error)) from error
