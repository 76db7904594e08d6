"""Typed settings: nested frozen dataclasses, made of the nested values of a YAML file, a JSON file or the command line."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from difflib import get_close_matches
from functools import lru_cache, reduce
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse
from pydantic import ConfigDict, TypeAdapter, ValidationError

T = TypeVar("T")
_CONFIGS = Path(__file__).parents[1] / "configs"


def read_configuration(config: str) -> dict[str, Any]:
    """Read the nested values of a configuration: the name of one in ltdiff/configs, or a YAML file.

    Raises:
        ValueError: neither a name nor a file, or a file that does not map names of sections to their values.
    """
    named = {path.stem: path for path in _CONFIGS.glob("*.yaml")}
    path = named.get(config, Path(config))
    if not path.is_file():
        raise ValueError(f"there is no configuration {config!r}: neither {', '.join(sorted(named))} nor a file")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{config} is no configuration: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{config} is no configuration: it must map names of sections to their settings")
    return values


def make_settings(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass of nested values; what is not given has its default. Errors as in `change_settings`."""
    return change_settings(kind(), values)


def change_settings(base: T, values: Mapping[str, Any]) -> T:
    """Replace some of the settings in `base`; `values` are nested, or their keys are dotted names, or both.

    Raises:
        ValueError: an unknown key, or a value of another type or out of its range; key and value are named.
    """
    values = reduce(_merge, (_nest(name, value) for name, value in values.items()), {})
    try:
        changed: T = _adapter(type(base)).validate_python([_merge(asdict(base), values)])[0]  # type: ignore[call-overload,arg-type]
    except ValidationError as error:
        raise ValueError(_describe(error, base)) from error
    return changed


@dataclass(frozen=True)
class Setting:
    """Setting in words: dotted name, type, default, meaning."""

    name: str
    type: str
    default: str
    meaning: str


def list_settings(settings: Any, *, prefix: str = "") -> Iterator[Setting]:
    """List the leaves of nested dataclasses; their meanings stand under "Args:" in the docstrings."""
    meanings = {param.arg_name: param.description or "" for param in parse(type(settings).__doc__ or "").params}
    for key, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, key)
        if is_dataclass(value):
            yield from list_settings(value, prefix=f"{prefix}{key}.")
        else:
            default = value if isinstance(value, str) else json.dumps(value)
            yield Setting(f"{prefix}{key}", _type_text(kind), default, " ".join(meanings.get(key, "").split()))


@lru_cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # Pydantic hands its configuration on to plain dataclasses inside a tuple, and takes none for one at the top.
    return TypeAdapter(tuple[kind], config=ConfigDict(extra="forbid", coerce_numbers_to_str=True))


def _nest(name: str, value: Any) -> dict[str, Any]:
    """("a.b", 1) -> {"a": {"b": 1}}."""
    return reduce(lambda inner, key: {key: inner}, reversed(name.split(".")), value)


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values in which those of `above` replace those of `below`."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        merged[key] = _merge(below[key], value) if both else value
    return merged


def _describe(refusal: ValidationError, base: Any) -> str:
    """Say in one clause what is wrong first; an unknown key comes before what is missing for it."""
    error = min(refusal.errors(), key=lambda one: one["type"] != "unexpected_keyword_argument")
    name = ".".join(map(str, error["loc"][1:]))
    if error["type"] == "unexpected_keyword_argument":
        near = get_close_matches(name, [setting.name for setting in list_settings(base)], n=1, cutoff=0)
        return f"there is no setting {name!r}; the nearest is {near[0]!r}"
    if error["type"] == "value_error":
        return f"{name}: {error['ctx']['error']}" if name else str(error["ctx"]["error"])
    if error["type"] == "dataclass_type":
        return f"{name} is a section and takes settings by their names, got {error['input']!r}"
    return f"{name} {error['msg'].removeprefix('Input ')}, got {error['input']!r}"


def _type_text(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(get_args(kind))
    if get_origin(kind) in (Union, UnionType):
        return " | ".join("null" if one is type(None) else _type_text(one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_type_text(get_args(kind)[0])}"
    return str(kind.__name__)
