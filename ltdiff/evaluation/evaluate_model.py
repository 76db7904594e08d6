"""Scoring methods on a manifest, on its pairs and without, and a trained model beside what a user would pick instead."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ltdiff.data.ensemble import has_unpaired
from ltdiff.data.manifest import data_fingerprint, read_manifest, series_digests
from ltdiff.data.paired_scans import PairedScan, find_paired_scans
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.evaluation.evaluation_result import EvaluationResult, ScanMeasures, collect_result
from ltdiff.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from ltdiff.evaluation.feature_values import ExtractAll
from ltdiff.evaluation.markdown import ccc_markdown
from ltdiff.evaluation.report import REPORT_FILE, add_section, write_report
from ltdiff.evaluation.risk import RiskEvaluation, RiskResult, risk_section
from ltdiff.evaluation.risk_command import RiskCommand
from ltdiff.evaluation.scored_scan import ScanImages, ScoredScan
from ltdiff.evaluation.scoring import SOURCE, Expectation, Harmonizer, Scores, score
from ltdiff.evaluation.unpaired_endpoints import LungScan, group_endpoints
from ltdiff.evaluation.unpaired_markdown import unpaired_markdown
from ltdiff.evaluation.unpaired_result import UnpairedResult, collect_unpaired_result
from ltdiff.evaluation.unpaired_set import UnpairedSet, read_unpaired_set
from ltdiff.inference.config import InferenceConfig
from ltdiff.inference.method import LinearMatch, Method, Slices
from ltdiff.inference.procedure import Procedure
from ltdiff.inference.series_method import SeriesMethod
from ltdiff.inference.standardized_slices import standardize_slices
from ltdiff.inference.standardizer import Standardizer
from ltdiff.model.config import OUTPUTS, Output
from ltdiff.model.model_folder import CHANGES, DATA_CHANGES, read_description, weights_sha256
from ltdiff.model.residual_model import read_residual_model
from ltdiff.radiomics.feature_sets import FEATURE_SETS
from ltdiff.system.atomic_files import file_sha256
from ltdiff.system.progress import progress
from ltdiff.system.text import printable

logger = logging.getLogger(__name__)


class ScoredSets(NamedTuple):
    """What is scored on pairs, and without; None for what a split does not hold."""

    paired: EvaluationSet | None
    unpaired: UnpairedSet | None


class Evaluation(NamedTuple):
    """What was measured on pairs, and without."""

    paired: EvaluationResult | None
    unpaired: UnpairedResult | None


def evaluate_model(
    manifest_path: Path,
    *,
    model: Path,
    out: Path,
    config: EvaluationConfig,
    inference: InferenceConfig,
    mask: Path | None = None,
    lung_mask: Path | None = None,
    risk: RiskCommand | None = None,
    endpoints: Callable[[], pd.DataFrame] | None = None,
    extract_all: ExtractAll | None = None,
) -> str:
    """Score the source, the linear match and the model; write the report to `out`; return the main tables as Markdown.

    Without pairs, a model that is nothing but its linear match has one row.

    Of a calibrated model the outputs that were not chosen, and the expectation of the features over samples, have rows of their
    own, unless one output was asked for.

    `endpoints` measures those without pairs in another way (a table of `group_endpoints`); it is called where they are reported.
    Features are extracted by processes on this machine, or by `extract_all`. With `risk`, the model of that command scores whole
    scans when the report is written.

    Raises:
        ValueError: as `read_scored_sets`; no pairs for `risk`; and, after all is written, risk scores that are missing.
    """
    torch.set_num_threads(1)  # several slices at a time, one thread each, as archives are standardized: the same values
    manifest = read_manifest(manifest_path)
    scans = [] if risk is None else _find_scans(manifest, config.split)
    standardizer = Standardizer.load(model, inference)
    methods, expectations = _methods(standardizer, manifest, model, inference)
    about = read_description(model)["about"]
    if _has_trained(about, manifest, split=config.split):
        logger.warning(
            "%s is not what the model was trained on, or split in another way, and has series that it was trained on: scored "
            "slices may have trained it",
            printable(manifest_path),
        )
    facts = {
        "model_weights_sha256": weights_sha256(model),
        "model": about,
        "num_inference_steps": standardizer.procedure.num_steps,
        "decode": standardizer.procedure.describe_decoding(),
        "inference_seed": inference.seed,
    }
    sets = read_scored_sets(manifest, config=config, mask=mask, lung_mask=lung_mask)
    evaluation = evaluate(
        *sets, methods=methods, expectations=expectations, endpoints=endpoints, out=out, facts=facts, extract_all=extract_all
    )
    tables = main_tables(evaluation)
    if risk is None:
        return tables
    scored = RiskEvaluation(risk, methods, _identity(model, inference), config.num_workers).score(scans, out=out)
    return f"{tables}\n\n{_add_risk(scored, out)}"


def _methods(
    standardizer: Standardizer, manifest: pd.DataFrame, model: Path, inference: InferenceConfig
) -> tuple[dict[str, Method], dict[str, Expectation]]:
    """The model and what it is set against; and what gives features alone."""
    methods: dict[str, Method] = {}
    if manifest["pair_id"].notna().any() or not standardizer.procedure.is_linear:  # else its row would be the model's own
        methods["linear"] = LinearMatch(standardizer.model.kernel_match)  # fitted to the pairs that the model was trained on
    methods["ltdiff"] = SeriesMethod(standardizer, manifest) if standardizer.procedure.series_noise else standardizer
    if inference.output is not None or read_residual_model(model) is None:
        return methods, {}
    others = [output for output in OUTPUTS if output not in (standardizer.procedure.output, "match")]  # "linear" is the match

    def used(output: Output) -> Standardizer:
        return standardizer.with_procedure(Procedure.read(model, replace(inference, output=output)))

    methods |= {f"ltdiff_{other}": used(other) for other in others}
    return methods, {"ltdiff_expected": Expectation(used("sample"))}


def _find_scans(manifest: pd.DataFrame, split: str) -> list[PairedScan]:
    scans = find_paired_scans(manifest, split=split)
    if not scans:
        raise ValueError(f"a risk command needs pairs, and the manifest has none in its split {split!r}")
    return scans


def _identity(model: Path, inference: InferenceConfig) -> str:
    """What decides a model's images: all its files, and how it is used."""
    return f"{inference} {sorted((path.name, file_sha256(path)) for path in model.iterdir() if path.is_file())}"


def _add_risk(result: RiskResult, out: Path) -> str:
    """Add the risk scores to the report in `out`; return them as Markdown.

    Raises:
        ValueError: some are missing; the others are in the report.
    """
    section = risk_section(result)
    add_section(out, section, {"risk_scores": result.scores, "risk_agreement": result.agreement})
    if result.failures:
        others = f", and {len(result.failures) - 1} more" if len(result.failures) > 1 else ""
        raise ValueError(f"{printable(out / REPORT_FILE)} lacks risk scores: {result.failures[0]}{others}")
    return section.to_markdown()


def read_scored_sets(
    manifest: pd.DataFrame, *, config: EvaluationConfig, mask: Path | None = None, lung_mask: Path | None = None
) -> ScoredSets:
    """Read the pairs of a split, and if slices of source or target in it have no partner, what is scored without pairs.

    Raises:
        ValueError: as `read_evaluation_set` and `read_unpaired_set`; lungs are given, and there are no pairs to lay them on.
    """
    unpaired = has_unpaired(manifest, config.split)
    has_pairs = ((manifest["split"] == config.split) & manifest["pair_id"].notna()).any()
    if lung_mask is not None and unpaired and not has_pairs:
        raise ValueError(
            f"{printable(lung_mask)}: lungs are given for pairs, and the manifest has none in its split {config.split!r}; "
            "without pairs they are found in every scan, on both sides alike"
        )
    return ScoredSets(
        read_evaluation_set(manifest, config=config, mask=mask, lung_mask=lung_mask) if has_pairs or not unpaired else None,
        read_unpaired_set(manifest, config=config, mask=mask) if unpaired else None,
    )


def evaluate(
    paired: EvaluationSet | None,
    unpaired: UnpairedSet | None = None,
    *,
    methods: Mapping[str, Method],
    harmonizers: Mapping[str, Harmonizer] | None = None,
    expectations: Mapping[str, Expectation] | None = None,
    endpoints: Callable[[], pd.DataFrame] | None = None,
    out: Path,
    facts: Mapping[str, Any],
    compared: str | None = None,
    extract_all: ExtractAll | None = None,
) -> Evaluation:
    """Standardize the source slices with every method, score them against the targets, write the report to `out`.

    The source itself, SOURCE, is always in the tables; `harmonizers` and `expectations` give features and no images. On pairs,
    the report sets the remaining error of the method `compared` against that of all others. `endpoints` as in `evaluate_model`.
    `facts` (times, versions, seeds) are for summary.json.
    """
    of_pairs = without_pairs = None
    if paired is not None:
        measures, seconds = ScanMeasures(paired), dict.fromkeys(methods, 0.0)
        scores = score(
            # no loop whose variable would keep a scan while the next one is read
            map(measures.take, _standardize_scans(methods, paired, seconds)),
            feature_set=FEATURE_SETS[paired.config.features],
            harmonizers=harmonizers,
            expectations=expectations,
            seed=paired.config.seed,
            num_workers=paired.config.num_workers,
            extract_all=extract_all,
        )
        of_set = {"seconds_per_slice": seconds, **facts}
        of_pairs = collect_result(scores, measures=measures, evaluation_set=paired, facts=of_set, compared=compared)
    if unpaired is not None:
        source = unpaired.source
        images, seconds = standardize_all(
            methods, source.hu, source.spacings_mm, source.places, num_workers=unpaired.config.num_workers
        )
        without_pairs = collect_unpaired_result(
            images,
            unpaired_set=unpaired,
            harmonizers=harmonizers or {},
            endpoints=_endpoints(methods, unpaired) if endpoints is None else endpoints(),
            facts={"seconds_per_slice": seconds, **facts},
            extract_all=extract_all,
        )
    write_report(of_pairs, without_pairs, out_dir=out)
    return Evaluation(of_pairs, without_pairs)


def _endpoints(methods: Mapping[str, Method], unpaired: UnpairedSet) -> pd.DataFrame:
    def standardize(scan: LungScan) -> dict[str, Slices]:
        images, _ = standardize_all(
            methods, scan.hu, scan.spacings_mm, scan.rows, num_workers=unpaired.config.num_workers, is_shown=False
        )
        return {name: hu for name, hu in images.items() if name != SOURCE}

    return group_endpoints(unpaired.source_scans, unpaired.target_scans, after=standardize, num_slices=unpaired.config.num_slices)


def _standardize_scans(methods: Mapping[str, Method], paired: EvaluationSet, seconds: dict[str, float]) -> Iterator[ScanImages]:
    """One scan after the other, with the images of all methods; adds to `seconds` what each takes for a slice of the set."""
    is_single = len(paired.scans) == 1

    def standardize(read: Callable[[], ScoredScan]) -> ScanImages:
        scan = read()
        images, of_scan = standardize_all(
            methods, scan.source_hu, scan.spacings_mm, scan.places, num_workers=paired.config.num_workers, is_shown=is_single
        )
        for name in methods:
            seconds[name] += of_scan[name] * len(scan.source_hu) / len(paired.places)
        return ScanImages(scan, images)

    return map(standardize, progress(paired.scans, name="score", unit="scan", is_shown=not is_single))


def standardize_all(
    methods: Mapping[str, Method],
    source_hu: Slices,
    spacings_mm: NDArray[np.float64],
    places: pd.DataFrame,
    *,
    num_workers: int,
    is_shown: bool = True,
) -> tuple[dict[str, Slices], dict[str, float]]:
    """The images (N, Y, X) of the source and of every method, and the seconds that each method takes for a slice.

    `places` names the series of each slice, and its number there.
    """
    numbers, series = places["slice_number"].to_numpy(), places["series_uid"].to_list()
    images, seconds = {SOURCE: source_hu}, {}
    for name, method in methods.items():
        started_s = time.perf_counter()
        made = standardize_slices(
            method, source_hu, spacings_mm, numbers=numbers, series=series, num_workers=num_workers, name=name, is_shown=is_shown
        )
        images[name] = np.stack(made)
        seconds[name] = (time.perf_counter() - started_s) / len(source_hu)
    return images, seconds


def _has_trained(about: dict[str, Any], manifest: pd.DataFrame, *, split: str) -> bool:
    """Whether series of the split trained the model, by another manifest than this one."""
    of_one_manifest = not any(change.startswith(DATA_CHANGES) for change in about.get(CHANGES, ()))
    if of_one_manifest and about.get("data_fingerprint") == data_fingerprint(manifest):
        return False
    return not series_digests(manifest, (split,)).isdisjoint(about.get("trained_series", ()))


def main_tables(evaluation: Evaluation) -> str:
    """The main tables of what was measured on pairs and without."""
    parts = [] if evaluation.paired is None else _paired_tables(evaluation.paired.scores)
    parts += [] if evaluation.unpaired is None else [unpaired_markdown(evaluation.unpaired)]
    return "\n\n".join(parts)


def _paired_tables(scores: Scores) -> list[str]:
    """CCC across regions (primary definition), and the image metrics; the regions of a HU range are in the report alone."""
    primary = scores.ccc[scores.ccc["definition"] == "across_rois"]
    parts = [
        f"CCC, {roi_set} regions ({int(table['num_rois'].max())}):\n\n{ccc_markdown(table)}"
        for roi_set, table in primary.groupby("roi_set", sort=False)
        if not str(roi_set).startswith("hu_")
    ]
    return [*parts, scores.image_metrics.to_markdown(index=False, floatfmt=".3f")]
