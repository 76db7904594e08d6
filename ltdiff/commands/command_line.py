"""Run a function as a command: its signature is the command line, its docstring the help.

Exit codes: 0 done; 1 something failed, and one sentence says what; 2 wrong arguments; 3 nothing to do, here is no CT series;
130 Ctrl-C; 143 SIGTERM, a training after a checkpoint.
"""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from ltdiff import __version__
from ltdiff.system.errors import NothingToDoError
from ltdiff.system.processes import exit_on_sigterm
from ltdiff.system.progress import configure_logging
from ltdiff.system.storage_url import SCHEMES, with_urls
from ltdiff.system.text import quoted, system_reason

Config = Annotated[str, Parameter(help="Settings: default, demo, fast or paper, or a YAML file.")]
Set = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        metavar="SECTION.KEY=VALUE",
        show_default=False,
        help="Change one setting; may be repeated. `ltdiff settings` lists them all.",
    ),
]
Hidden = Parameter(parse=False)
"""A parameter that jobs give, and no command line."""
IN_PLACE = "changed in place"
"""In the annotation of a folder that a command changes: it cannot lie in object storage."""
MODEL_CACHE = Path("~/.cache/ltdiff")
"""Folder of downloaded models."""
MODEL_STORE = Path("~/.local/share/ltdiff/models")
"""Folder of installed models."""
ALL_CHAMPIONS = "models:/ltdiff"
"""In the place of one registered model: the champions for all pairs of kernels."""
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How a URI begins, with one slash because a path has no double ones; a drive of Windows has one letter."""
SUBMITTED_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Environment variable that Ray sets in the driver of a submitted job."""


class UsageError(ValueError):
    """Arguments that contradict each other or have no effect."""


def make_app(function: Callable[..., int] | None = None, *, name: str | None = None, about: str | None = None) -> App:
    """Make a program of one function, or one to which commands are added; `about` begins its help."""
    app = App(
        name=name,
        help=about,
        version=f"ltdiff {__version__}",
        # --use_gpu, and no --no-use-gpu
        default_parameter=Parameter(negative=(), name_transform=str, validator=_check_paths),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    if function is not None:
        app.default(function)
    return app


def _check_paths(_: object, value: object) -> None:
    """Refuse a path that would lead to a folder that nobody meant: see `path_fault`. For every argument of every command."""
    for path in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(path, Path) and (fault := path_fault(str(path))):
            raise UsageError(fault)


def path_fault(path: str) -> str:
    """What speaks against a path: an unknown scheme (`hdfs://…`), or that it is relative in a submitted job; or ""."""
    if path.startswith(tuple(f"{scheme}:/" for scheme in SCHEMES)):
        return ""
    if SCHEME.match(path):
        return f"{quoted(path)}: of URIs only s3://, gs:// and az:// are supported: mount the storage, or copy the data"
    if SUBMITTED_JOB in os.environ and not Path(path).is_absolute():
        return (
            f"{quoted(path)} is relative: in a submitted job that is a folder in Ray's copy of the working directory, which is "
            "deleted; give the absolute path of storage that all nodes share"
        )
    return ""


def run(command: App | Callable[..., int], arguments: list[str] | None = None, *, about: str | None = None) -> int:
    """Run a command with `arguments`, those of the program by default; return the exit code."""
    configure_logging()
    with exit_on_sigterm():
        return _run(command, arguments, about=about)


def _run(command: App | Callable[..., int], arguments: list[str] | None, *, about: str | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    app = command if isinstance(command, App) else make_app(command, about=about)
    try:
        result: Any = _call(app, arguments)
    except (CycloptsError, UsageError) as error:
        return _refuse(str(error), exit_code=2)
    except NothingToDoError as error:
        return _refuse(str(error), exit_code=3)
    except ValueError as error:
        return _refuse(str(error))
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{place}{system_reason(error) or type(error).__name__}")
    except KeyboardInterrupt:
        return _refuse("interrupted; run the same command again to resume", exit_code=130)
    has_shown_help = result is None and not any(argument.startswith("-") for argument in arguments)
    return 2 if has_shown_help else int(result or 0)  # help in the place of a command that is missing


def _call(app: App, arguments: list[str]) -> Any:
    """Call the function that the arguments name, with local copies of what lies in object storage."""
    from ltdiff.commands.remote_arguments import local_arguments

    command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    with local_arguments(bound):
        return command(*bound.args, **bound.kwargs)


def _refuse(sentence: str, *, exit_code: int = 1) -> int:
    print(f"ltdiff: {with_urls(sentence)}", file=sys.stderr)
    return exit_code


def print_lines(lines: str) -> None:
    """Print many lines to a reader who may stop before the end, as `| head` does."""
    try:
        print(lines, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends


def is_registered(model: str) -> bool:
    """Tell a models:/ URI from a folder."""
    return model.startswith("models:/")


def model_cache() -> Path:
    """MODEL_CACHE in full. ValueError where there is no home folder."""
    return _in_home(MODEL_CACHE, "registered")


def model_store() -> Path:
    """MODEL_STORE in full. ValueError where there is no home folder."""
    return _in_home(MODEL_STORE, "installed")


def _in_home(folder: Path, kind: str) -> Path:
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise ValueError(f"{kind} models are kept in {folder}, and there is no home folder: set HOME") from error


def resolve_model(model: str) -> Path:
    """Return the folder of a model; a registered one is downloaded and verified."""
    if not is_registered(model):
        if fault := path_fault(model):
            raise UsageError(fault)
        return Path(model)
    from ltdiff.registry.versions import download

    return download(model, out_dir=model_cache())


def resolve_models(model: str) -> Path:
    """Return the folder of a model, or one that holds several: of models:/ltdiff the champions for all pairs of kernels."""
    if model != ALL_CHAMPIONS:
        return resolve_model(model)
    from ltdiff.registry.versions import download_champions

    return download_champions(out_dir=model_cache())
