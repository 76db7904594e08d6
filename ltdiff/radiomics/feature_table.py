"""Tables of features: read and written as CSV or Parquet, and which of their columns are features."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from ltdiff.system.atomic_files import replace_file
from ltdiff.system.text import printable, quoted

TABLE_SUFFIXES: Final = (".parquet", ".csv")
SIZES = ("num_voxels", "volume_mm3")
"""Numbers beside the features of `ltdiff radiomics`."""
MEASUREMENT = ("extractor", "extractor_version", "discretisation")
"""How `ltdiff radiomics` measured; other columns may be missing in a table of another program."""
MARK = "harmonization"
"""Column of harmonized tables: what was applied."""
MAX_NAMED = 5
"""Columns or batches in one sentence."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are no features: batches, covariates, the patient, and others (patterns of shell style)."""

    batches: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    patient: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """Those that must be there, with a value in every row."""
        return (*self.batches, *self.covariates, *([self.patient] if self.patient else []))


def check_table_path(path: Path) -> None:
    """ValueError when `write_table` could not tell the format from the name."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise ValueError(f"{printable(path)}: the name of a table ends with {' or '.join(TABLE_SUFFIXES)}")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as Parquet or CSV, by the name; the file appears when it is complete. Raises as `check_table_path`."""
    check_table_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write = table.to_csv if path.suffix.lower() == ".csv" else table.to_parquet
    replace_file(path, partial(write, index=False))


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as Parquet or CSV, by the name.

    Raises:
        ValueError: another ending, no table, no row, a column without a name, or two of one name.
    """
    check_table_path(path)
    try:
        is_csv = path.suffix.lower() == ".csv"
        if is_csv:
            names = pd.read_csv(path, header=None, nrows=1, dtype=str).iloc[0]
        table = pd.read_csv(path) if is_csv else pd.read_parquet(path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f"{printable(path)} cannot be read as a table: {str(error).splitlines()[0]}") from error
    names = names if is_csv else table.columns.to_series()
    if names.isna().any():
        raise ValueError(
            f"{printable(path)} has a column without a name (number {int(names.isna().argmax()) + 1}): name it, or drop it"
        )
    if names.duplicated().any():
        raise ValueError(f"{printable(path)} has two columns {quoted(names[names.duplicated()].iloc[0])}")
    if table.empty:
        raise ValueError(f"{printable(path)} has no row")
    return table


def check_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """ValueError where one of these is missing, lacks a value, or where the table is harmonized already."""
    if MARK in table:
        raise ValueError(f"the table is harmonized already: it has a column {quoted(MARK)}")
    for name in names:
        if name not in table:
            raise ValueError(f"there is no column {quoted(name)}; the first ones are {listed(table.columns)}")
        if num := int(table[name].isna().sum()):
            raise ValueError(
                f"the column {quoted(name)} has no value in {num} of {len(table)} rows: fill it, or leave out the rows"
            )


def find_features(table: pd.DataFrame, columns: Columns) -> list[str]:
    """Names of the features: columns of numbers that have no other role.

    Raises:
        ValueError: there is none, or nothing is named by one of the patterns `kept`.
    """
    names = list(map(str, table.columns))
    for pattern in columns.kept:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"no column is called {quoted(pattern)}, which was to be kept")
    others = {*columns.named, *SIZES}
    features = [
        name
        for name in names
        if name not in others
        and is_numeric_dtype(table[name])
        and not is_bool_dtype(table[name])
        and not any(fnmatchcase(name, pattern) for pattern in columns.kept)
    ]
    if not features:
        raise ValueError("no column is left that could be a feature: all are text, or have another role")
    return features


def feature_values(table: pd.DataFrame, features: Sequence[str]) -> NDArray[np.float64]:
    """Values (N, F), NaN where there is none.

    Raises:
        ValueError: a feature is missing, or is no number.
    """
    if missing := [name for name in features if name not in table]:
        raise ValueError(f"features of the fit are missing: {listed(missing)}; measure the same ones")
    if texts := [name for name in features if not is_numeric_dtype(table[name])]:
        raise ValueError(f"features are no numbers: {listed(texts)}")
    values = table[list(features)].to_numpy(dtype=float)
    return np.where(np.isfinite(values), values, np.nan)


def check_defined(values: NDArray[np.float64], features: Sequence[str], *, remedy: str) -> None:
    """ValueError where a value is missing; features (how many, and the first ones) and number of rows are named."""
    undefined = np.isnan(values)
    if undefined.any():
        names = np.array(features)[undefined.any(axis=0)].tolist()
        raise ValueError(
            f"there are features without a finite value in {int(undefined.any(axis=1).sum())} of {len(values)} rows: "
            f"{listed(names)}; {remedy}"
        )


def measurement_of(table: pd.DataFrame) -> dict[str, str]:
    """How the features were measured, as far as the table says it. ValueError where rows were measured in several ways."""
    found = {name: table[name].astype(str) for name in MEASUREMENT if name in table}
    for name, column in found.items():
        if column.nunique() > 1:
            raise ValueError(f"rows were measured in several ways: {name} is {listed(column.unique())}; measure all in one way")
    return {name: column.iloc[0] for name, column in found.items()}


def listed(names: Iterable[object]) -> str:
    """The first of them, quoted, and how many more there are."""
    listed = [quoted(name) for name in names]
    more = f" and {len(listed) - MAX_NAMED} more" if len(listed) > MAX_NAMED else ""
    return ", ".join(listed[:MAX_NAMED]) + more
