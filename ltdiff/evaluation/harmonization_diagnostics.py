"""What a harmonization of features has done: is the batch still identifiable, are covariates kept, do distributions agree?

Each is measured before, after, and of new patients: fitted again to one half of the patients, the harmonization is applied to the
other half, and measured there alone. Only this says what new patients can expect. The rows of a fit agree better than two samples
of one batch do, for they were moved by their own moments; a classifier that is trained on some of them is wrong about the rest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from ltdiff.evaluation.feature_sample import FeatureSample
from ltdiff.evaluation.identifiability import identifiability
from ltdiff.radiomics.combat_model import Codes, Rows, Values
from ltdiff.radiomics.feature_harmonization import FeatureHarmonization, fit_steps
from ltdiff.radiomics.feature_table import feature_values
from ltdiff.system.progress import progress

SEED = 0
BEFORE, AFTER, NEW = STAGES = ("before", "after", "new_patients")
COVARIATES = "covariates_alone"
CHANCE = "chance"
"""The new patients with their batches shuffled: what distributions differ by for no reason."""
WITHIN = "before_within_batches"
"""Effect of a covariate with the batches in the model: the one to be kept."""


@dataclass(frozen=True)
class HarmonizationDiagnostics:
    """Tables of one harmonization.

    Attributes:
        identifiability: Of each batch against all others: AUC with interval at every stage, and of the covariates alone.
        covariates: Effect of each covariate on each feature, in residual standard deviations: per standard deviation of a number,
            or of a level against the first.
        distributions: Of each feature and batch against all others: difference of the means in standard deviations, ratio of the
            variances, Kolmogorov–Smirnov statistic, at every stage and by chance.
    """

    identifiability: pd.DataFrame
    covariates: pd.DataFrame
    distributions: pd.DataFrame


class Stage(NamedTuple):
    """Features (N, F) and the rows (N,) that are measured."""

    values: Values
    chosen: NDArray[np.bool_]


class Batch(NamedTuple):
    """A batch: its column, its name, which rows (N,) are of it, and the patients (N,) of all rows."""

    column: str
    name: str
    members: NDArray[np.bool_]
    patients: Codes


def diagnose(harmonization: FeatureHarmonization, table: pd.DataFrame) -> HarmonizationDiagnostics:
    """Diagnose a harmonization on the table that it was fitted to."""
    values, rows = feature_values(table, harmonization.features), harmonization.rows_of(table)
    everyone = np.ones(len(values), dtype=bool)
    held = second_half(rows)
    stages = {
        BEFORE: Stage(values, everyone),
        AFTER: Stage(harmonization.adjust(values, rows), everyone),
        NEW: Stage(adjust_unseen(harmonization, values, rows, held), held),
    }
    design = next(iter(rows.values())).design
    alone = {COVARIATES: Stage(design, everyone)} if harmonization.covariates else {}
    told, compared = [], []
    for batch in progress(list(_batches(harmonization, rows)), name="diagnosis", unit="comparison"):
        told += [_identify(batch, name, stage) for name, stage in {**stages, **alone}.items()]
        compared.append(_compare(batch, harmonization.features, stages))
    return HarmonizationDiagnostics(
        identifiability=pd.DataFrame(told),
        covariates=_effects_table(harmonization, stages, rows),
        distributions=pd.concat(compared, ignore_index=True),
    )


def second_half(rows: Mapping[str, Rows]) -> NDArray[np.bool_]:
    """Rows (N,) of every other patient, as many of each batch as of the others."""
    patients = next(iter(rows.values())).patients
    _, first, numbers = np.unique(patients, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(SEED).permutation(len(first))
    order = np.lexsort([shuffled, *(of_column.batches[first] for of_column in rows.values())])
    is_held = np.empty(len(first), dtype=bool)
    is_held[order] = np.arange(len(first)) % 2 == 1
    return np.asarray(is_held[numbers])


def adjust_unseen(
    harmonization: FeatureHarmonization, values: Values, rows: Mapping[str, Rows], held: NDArray[np.bool_]
) -> Values:
    """Harmonize the features of the rows `held` (N,) by a fit to the others; NaN elsewhere, and where a feature is constant."""
    training = {name: of_column.select(~held) for name, of_column in rows.items()}
    of_batches = [values[~held][one.batches == batch] for one in training.values() for batch in np.unique(one.batches)]
    varies = np.all([np.ptp(of_batch, axis=0) > 0 for of_batch in of_batches], axis=0)
    steps = fit_steps(
        values[~held][:, varies],
        training,
        harmonization.method,
        order=list(harmonization.batches),
        batches=harmonization.batches,
        reference=harmonization.reference,
    )
    unseen = {name: of_column.select(held) for name, of_column in rows.items()}
    adjusted = np.full_like(values, np.nan)
    adjusted[np.ix_(held, varies)] = replace(harmonization, steps=steps).adjust(values[held][:, varies], unseen)
    return adjusted


def covariate_effects(values: Values, design: Values, indicators: Values) -> Values:
    """Coefficients (C, F) of `design` (N, C) beside `indicators`, in residual standard deviations, by least squares."""
    model = np.hstack([indicators, design])
    is_defined = np.isfinite(values).all(axis=0)
    effects = np.full((design.shape[1], values.shape[1]), np.nan)
    coefficients, _, rank, _ = np.linalg.lstsq(model, values[:, is_defined])
    squares = ((values[:, is_defined] - model @ coefficients) ** 2).sum(axis=0)
    effects[:, is_defined] = coefficients[indicators.shape[1] :] / np.sqrt(squares / (len(values) - rank))
    return effects


def on_one_side(patients: Codes, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows (N,) such that no patient is on both sides: every other one of those who are keeps the rows of the batch.

    A classifier that has seen a patient on one side is misled by the rows of the other.
    """
    _, numbers = np.unique(patients, return_inverse=True)
    is_shared = (np.bincount(numbers, members) > 0) & (np.bincount(numbers, ~members) > 0)
    keeps_batch = np.cumsum(is_shared) % 2 == 1
    return np.asarray(~is_shared[numbers] | (members == keeps_batch[numbers]))


def _batches(harmonization: FeatureHarmonization, rows: Mapping[str, Rows]) -> Iterator[Batch]:
    """Of two batches the first alone, for the other mirrors it."""
    for column, names in harmonization.batches.items():
        for number, name in enumerate(names if len(names) > 2 else names[:1]):
            yield Batch(column, name, rows[column].batches == number, rows[column].patients)


def _identify(batch: Batch, name: str, stage: Stage) -> dict[str, object]:
    sample = FeatureSample(stage.values, batch.patients)
    chosen = stage.chosen & on_one_side(batch.patients, batch.members)
    told = identifiability(sample.select(chosen & batch.members), sample.select(chosen & ~batch.members))
    return {"batch_column": batch.column, "batch": batch.name, "stage": name, **told._asdict()}


def _effects_table(harmonization: FeatureHarmonization, stages: Mapping[str, Stage], rows: Mapping[str, Rows]) -> pd.DataFrame:
    design = next(iter(rows.values())).design
    intercept = np.ones((len(design), 1))
    indicators = np.hstack([np.eye(len(harmonization.batches[name]))[of.batches] for name, of in rows.items()])
    effects = {WITHIN: covariate_effects(stages[BEFORE].values, design, indicators)}
    for name, (values, chosen) in stages.items():
        effects[name] = covariate_effects(values[chosen], design[chosen], intercept[chosen])
    terms = [term for covariate in harmonization.covariates for term in covariate.terms]
    index = pd.MultiIndex.from_product([terms, harmonization.features], names=["covariate", "feature"])
    return pd.DataFrame({stage: effect.ravel() for stage, effect in effects.items()}, index).reset_index()


def _compare(batch: Batch, features: tuple[str, ...], stages: Mapping[str, Stage]) -> pd.DataFrame:
    table = pd.DataFrame({"batch_column": batch.column, "batch": batch.name, "feature": list(features)})
    shuffled = batch.members.copy()
    shuffled[stages[NEW].chosen] = np.random.default_rng(SEED).permutation(shuffled[stages[NEW].chosen])
    members = dict.fromkeys(stages, batch.members) | {CHANCE: shuffled}
    for name, is_member in members.items():
        values, chosen = stages.get(name, stages[NEW])
        one, other = values[chosen & is_member], values[chosen & ~is_member]
        variance, of_others = one.var(axis=0, ddof=1), other.var(axis=0, ddof=1)
        table[f"mean_difference_{name}"] = (one.mean(axis=0) - other.mean(axis=0)) / np.sqrt((variance + of_others) / 2)
        table[f"variance_ratio_{name}"] = variance / of_others
        table[f"ks_{name}"] = [ks_2samp(a, b, method="asymp").statistic for a, b in zip(one.T, other.T, strict=True)]
    return table
