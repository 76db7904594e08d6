"""Harmonization of a table of features: fitted to patients of several batches, and applied to new patients of these batches."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltdiff.radiomics.combat_model import HarmonizationStep, Rows, Values, fit_combat, fit_covbat
from ltdiff.radiomics.covariates import Covariate, check_confounding, labels
from ltdiff.radiomics.feature_table import (
    MARK,
    MAX_NAMED,
    Columns,
    check_columns,
    check_defined,
    feature_values,
    find_features,
    listed,
    measurement_of,
)
from ltdiff.radiomics.longitudinal_combat import fit_longitudinal
from ltdiff.radiomics.nested_combat import MAX_COLUMNS, best_order, fit_in_order
from ltdiff.system.text import quoted

logger = logging.getLogger(__name__)

Method = Literal["combat", "covbat", "nested", "longitudinal"]
MIN_PATIENTS = 10
"""Of a batch; and of patients with several rows, for longitudinal ComBat. Moments of fewer say too little."""
ROUNDING = 1e-12
"""A feature that varies by less, relative to its values, is constant."""
FEW_PATIENTS = 20
"""F. Orlhac et al., J. Nucl. Med. 63 (2022) 172, advise 20 to 30 patients of a batch."""


@dataclass(frozen=True)
class FeatureHarmonization:
    """A fitted harmonization.

    Attributes:
        method: How it was fitted.
        features: Names of the F features that it changes.
        unchanged: Features that it leaves as they are, and why.
        batches: Batches of every batch column, in the order in which the columns are harmonized.
        num_patients: Of these batches, in the fit.
        covariates: Covariates whose effects it keeps.
        patient: Column of the patient, where the fit had one.
        reference: Batch that stays as it is.
        measurement: How the features were measured, as far as the table said it.
        steps: For every batch column, what was fitted.
    """

    method: Method
    features: tuple[str, ...]
    unchanged: Mapping[str, str]
    batches: Mapping[str, tuple[str, ...]]
    num_patients: Mapping[str, tuple[int, ...]]
    covariates: tuple[Covariate, ...]
    patient: str | None
    reference: str | None
    measurement: Mapping[str, str]
    steps: Mapping[str, HarmonizationStep]

    def rows_of(self, table: pd.DataFrame) -> dict[str, Rows]:
        """What is known of the rows of a table, for every batch column.

        Raises:
            ValueError: a batch or a level of a covariate that the fit has not seen, or a column is missing or has gaps.
        """
        patient = self.patient if self.method == "longitudinal" or self.patient in table else None
        columns = Columns(tuple(self.batches), tuple(one.name for one in self.covariates), patient)
        check_columns(table, columns.named)
        return _rows_of(table, columns, self.batches, self.covariates)

    def adjust(self, values: Values, rows: Mapping[str, Rows]) -> Values:
        """Harmonize features (N, F) of these rows."""
        for name, step in self.steps.items():
            values = step.adjust(values, rows[name])
        return values

    def apply(self, table: pd.DataFrame, *, mark: str) -> pd.DataFrame:
        """Harmonize a table of new or old patients; it gets a column MARK that says `mark`, and all others stay.

        Rows are harmonized one by one, by longitudinal ComBat patient by patient. A missing value stays missing.

        Raises:
            ValueError: see `rows_of`; a feature is missing, or was measured in another way; or, for CovBat, has no value.
        """
        rows = self.rows_of(table)
        values = feature_values(table, self.features)
        for name, now in measurement_of(table).items():
            if (before := self.measurement.get(name, now)) != now:
                raise ValueError(f"the features were measured in another way: {name} is {quoted(now)}, and was {quoted(before)}")
        if self.method == "covbat":
            check_defined(values, self.features, remedy="CovBat mixes the features, and needs all of them")
        if num := int(np.isnan(values).sum()):
            logger.warning("%d of %d values are missing, and stay so", num, values.size)
        harmonized = pd.DataFrame(self.adjust(values, rows), table.index, list(self.features))
        others = table.drop(columns=list(self.features)).assign(**{MARK: mark})
        return pd.concat([others, harmonized], axis=1)[[*table.columns, MARK]]


def fit_harmonization(
    table: pd.DataFrame,
    columns: Columns,
    *,
    method: Method = "combat",
    reference: str | None = None,
    keep_incomplete: bool = False,
) -> FeatureHarmonization:
    """Fit a harmonization to a table with a row for each region or patient.

    Args:
        table: Features, batch columns, covariates, patients.
        columns: Which is which.
        method: How; `nested` takes several batch columns, the others one.
        reference: A batch that stays as it is, for `combat` and `covbat`.
        keep_incomplete: Leave features without a value in some row as they are, instead of refusing them.

    Raises:
        ValueError: the table does not allow it: one sentence says why.
    """
    _check_arguments(columns, method, reference)
    check_columns(table, columns.named)
    batches = {name: tuple(sorted(labels(table[name]).unique())) for name in columns.batches}
    covariates = tuple(Covariate.of(table[name]) for name in columns.covariates)
    rows = _rows_of(table, columns, batches, covariates)
    num_patients = {name: _count_patients(name, batches[name], rows[name]) for name in batches}
    if method == "longitudinal":
        _check_repeats(rows[columns.batches[0]].patients)
    for name in batches:
        check_confounding(covariates, [one.encode(table[one.name]) for one in covariates], labels(table[name]))
    _check_reference(reference, batches[columns.batches[0]])
    features = find_features(table, columns)
    logger.info("%d features: %s", len(features), listed(features))
    values = feature_values(table, features)
    if not keep_incomplete:
        check_defined(values, features, remedy="leave out these rows, or leave these features as they are (--keep_incomplete)")
    unchanged = _find_unchanged(values, features, batches, rows)
    values = values[:, [name not in unchanged for name in features]]
    if not values.size:
        raise ValueError("every feature is constant in some batch, or lacks a value: there is nothing to harmonize")
    order = best_order(values, rows) if method == "nested" else columns.batches
    return FeatureHarmonization(
        method=method,
        features=tuple(name for name in features if name not in unchanged),
        unchanged=unchanged,
        batches={name: batches[name] for name in order},
        num_patients={name: num_patients[name] for name in order},
        covariates=covariates,
        patient=columns.patient,
        reference=reference,
        measurement=measurement_of(table),
        steps=fit_steps(values, rows, method, order=order, batches=batches, reference=reference),
    )


def fit_steps(
    values: Values,
    rows: Mapping[str, Rows],
    method: Method,
    *,
    order: Sequence[str],
    batches: Mapping[str, Sequence[str]],
    reference: str | None,
) -> dict[str, HarmonizationStep]:
    """Fit what `method` names to features (N, F) that vary in every batch, for every batch column in this order."""
    if method == "nested":
        return {**fit_in_order(values, rows, order)[0]}
    (name,) = order
    if method == "longitudinal":
        return {name: fit_longitudinal(values, rows[name])}
    number = None if reference is None else list(batches[name]).index(reference)
    fit = fit_covbat if method == "covbat" else fit_combat
    return {name: fit(values, rows[name], reference=number)}


def _check_arguments(columns: Columns, method: Method, reference: str | None) -> None:
    if repeated := [name for name, number in Counter(columns.named).items() if number > 1]:
        raise ValueError(f"the column {quoted(repeated[0])} has two roles")
    if method == "nested" and not 2 <= len(columns.batches) <= MAX_COLUMNS:
        raise ValueError(f"nested ComBat takes 2 to {MAX_COLUMNS} batch columns, got {len(columns.batches)}")
    if method != "nested" and len(columns.batches) != 1:
        raise ValueError(f"{method} takes one batch column, got {len(columns.batches)}; nested takes several")
    if method == "longitudinal" and columns.patient is None:
        raise ValueError("longitudinal ComBat needs the column of the patient")
    if reference is not None and method not in ("combat", "covbat"):
        raise ValueError(f"{method} has no reference batch; combat and covbat have")


def _check_reference(reference: str | None, batches: Sequence[str]) -> None:
    if reference is not None and reference not in batches:
        raise ValueError(f"there is no batch {quoted(reference)}; there are {', '.join(map(quoted, batches))}")


def _rows_of(
    table: pd.DataFrame, columns: Columns, batches: Mapping[str, Sequence[str]], covariates: Sequence[Covariate]
) -> dict[str, Rows]:
    design = np.hstack([np.empty((len(table), 0)), *(one.encode(table[one.name]) for one in covariates)])
    patients = np.arange(len(table))
    if columns.patient is not None:
        patients = pd.factorize(labels(table[columns.patient]))[0]
    return {name: Rows(_numbers(labels(table[name]), batches[name]), design, patients) for name in batches}


def _numbers(found: pd.Series, batches: Sequence[str]) -> NDArray[np.int64]:
    if unknown := sorted(set(found) - set(batches)):
        raise ValueError(
            f"the batch {quoted(unknown[0])} of the column {quoted(found.name)} is not in the fit, which knows "
            f"{', '.join(map(quoted, batches))}; fit again with patients of it"
        )
    return pd.Index(batches).get_indexer(pd.Index(found))


def _count_patients(column: str, batches: Sequence[str], rows: Rows) -> tuple[int, ...]:
    """Patients of every batch. ValueError where there is one batch alone, or one is small."""
    if len(batches) < 2:
        raise ValueError(f"the column {quoted(column)} has one batch alone, {quoted(batches[0])}")
    counts = tuple(len(np.unique(rows.patients[rows.batches == number])) for number in range(len(batches)))
    small = [f"{quoted(batch)} has {num}" for batch, num in zip(batches, counts, strict=True) if num < MIN_PATIENTS]
    if small:
        named = ", ".join(small) if len(small) <= MAX_NAMED else f"{len(small)} of {len(batches)} batches have fewer"
        raise ValueError(
            f"a batch needs {MIN_PATIENTS} patients, and of the column {quoted(column)} {named}: leave it out, or join it with a "
            "batch of the same protocol"
        )
    if min(counts) < FEW_PATIENTS:
        logger.warning("%s: a batch has %d patients; %d to 30 are advised", quoted(column), min(counts), FEW_PATIENTS)
    return counts


def _check_repeats(patients: NDArray[np.int64]) -> None:
    if (num := int((np.bincount(patients) > 1).sum())) < MIN_PATIENTS:
        raise ValueError(
            f"longitudinal ComBat learns from patients with several rows: {MIN_PATIENTS} are needed, and here are {num}; combat "
            "does without"
        )


def _find_unchanged(
    values: Values, features: Sequence[str], batches: Mapping[str, Sequence[str]], rows: Mapping[str, Rows]
) -> dict[str, str]:
    """Features that cannot be fitted, and why: without a value somewhere, or without variance in some batch."""
    incomplete = np.isnan(values).any(axis=0)
    found = dict.fromkeys(np.array(features)[incomplete].tolist(), "without a value in some row")
    for column, levels in batches.items():
        for number, batch in enumerate(levels):
            of_batch = values[rows[column].batches == number]
            is_constant = np.ptp(of_batch, axis=0) <= ROUNDING * np.abs(of_batch).max(axis=0)
            for name in np.array(features)[is_constant].tolist():
                found.setdefault(name, f"constant in the batch {quoted(batch)}")
    if found:
        logger.warning("features that cannot be fitted stay as they are: %s", listed(found))
    return found
