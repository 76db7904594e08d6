"""How a function becomes a command: options, types and help come from its signature and docstring.

Exit codes: 0 all done; 1 something failed, and one sentence says what; 2 wrong arguments; 130 interrupted; 143 ended by
SIGTERM, a training after a checkpoint.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import SUPPRESS, Action
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser, auto_cli

from ltdiff import __version__


def run(commands: Callable[..., int] | dict[str, Any], arguments: list[str] | None = None) -> int:
    """Run one of the commands by name (or the only one) with the given arguments, sys.argv's by default; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["pair"]:
        arguments = _name_root(arguments)
    arguments = _complete_force(arguments)
    try:
        result: Any = auto_cli(
            commands, args=arguments, as_positional=True, parser_class=_Parser, version=f"ltdiff {__version__}"
        )
    except ValueError as error:
        print(f"ltdiff: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"ltdiff: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ltdiff: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return int(result or 0)


def _name_root(arguments: list[str]) -> list[str]:
    """The only positional of `pair`, as an option: jsonargparse makes positionals of required arguments only."""
    place = 1
    while place < len(arguments) and arguments[place].startswith("-"):
        place += 1 if "=" in arguments[place] else 2
    return [*arguments[:place], "--root", *arguments[place:]] if place < len(arguments) else arguments


def _complete_force(arguments: list[str]) -> list[str]:
    """--force alone means --force true."""
    followers = [*arguments[1:], ""]
    return [
        f"{one}=true" if one == "--force" and follower.lower() not in ("true", "false") else one
        for one, follower in zip(arguments, followers, strict=False)
    ]


def print_lines(lines: str) -> None:
    """Print many lines to a reader who may stop before the end, as `| head` does."""
    try:
        print(lines, end="", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it ends


class _ListFeatures(Action):
    """An option that, like --version, does its work and ends the program, whatever else is missing."""

    def __init__(self, option_strings: list[str], **_: Any) -> None:
        text = "Print the names of all features, one a line, and nothing else."
        super().__init__(option_strings, SUPPRESS, nargs=0, default=SUPPRESS, help=text)

    def __call__(self, parser: Any, *_: Any) -> None:
        from ltdiff.radiomics.catalogue import feature_names

        print_lines("".join(f"{name}\n" for name in feature_names()))
        parser.exit()


class _Parser(ArgumentParser):
    """Options that no signature can express."""

    def add_function_arguments(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[str]:
        """As ever, and --list where the features are measured. What has a default is not called required."""
        if function.__name__ == "radiomics":
            self.add_argument("--list", action=_ListFeatures)
        added = list(super().add_function_arguments(function, *args, **kwargs))
        for action in self._actions:  # values that their class demands and the command's own default has
            action.required = action.required and action.default is None
        return added
