"""The commands, one function each; command_line.py makes options, types and help of its signature and docstring."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ltdiff import cli_models
from ltdiff.command_line import print_lines, run
from ltdiff.evaluation.config import EvaluationConfig
from ltdiff.inference.standardizer import InferenceConfig
from ltdiff.radiomics.catalogue import CatalogueConfig
from ltdiff.search.config import SearchConfig
from ltdiff.simulation.config import SimulationConfig
from ltdiff.training.config import Settings
from ltdiff.training.phases import PHASES

logger = logging.getLogger(__name__)

MODEL_CACHE = Path.home() / ".cache" / "ltdiff"


def pair(
    root: Path | None = None,
    *,
    out: Path = Path("pairs.parquet"),
    source: Path | None = None,
    target: Path | None = None,
    source_kernel: str | None = None,
    target_kernel: str | None = None,
    split: str = "auto",
) -> int:
    """Find every dual-kernel acquisition in an archive, or pair two named series; write the manifest.

    Args:
        root: Folder tree of DICOM series to search; `ltdiff pair ROOT` will do.
        out: The manifest, a Parquet file with one row per slice.
        source: Instead of an archive: DICOM folder or volume file (NIfTI, NRRD, MHA) with the non-standard kernel.
        target: Its partner with the standard kernel.
        source_kernel: Pair only series with this ConvolutionKernel with the standard one, for a model of their own.
        target_kernel: ConvolutionKernel that is the standard one; without it, the sharpest kernel.
        split: "z:0.7" (blocks of slices), "patient:0.7", or "auto" (by patient when there are three or more).
    """
    from ltdiff.data.manifest import LEFT_OUT, SPLITS, write_manifest
    from ltdiff.data.pairing import pair_archive, pair_named

    if (root is None) == (source is None) or (source is None) != (target is None):
        raise ValueError("name either a folder to search, or both --source and --target")
    if source is not None and target is not None:
        if source_kernel is not None or target_kernel is not None:
            raise ValueError(
                "--source_kernel and --target_kernel choose series of an archive: --source and --target are chosen"
            )
        result = pair_named(source, target, split=split)
    else:
        assert root is not None
        result = pair_archive(root, source_kernel=source_kernel, target_kernel=target_kernel, split=split)
    for issue in result.issues:
        logger.warning("%s: %s", issue.action, issue)
    print(result.table.to_markdown() if len(result.table) else "no pairs found")
    write_manifest(result.manifest, out)
    counts = result.manifest[result.manifest["role"] == "source"]["split"].value_counts()
    pairs = ", ".join(f"{counts[split]} {split}" for split in (*SPLITS, LEFT_OUT) if split in counts)
    print(f"{out}: {counts.sum()} pairs ({pairs or 'none'}), {len(result.manifest)} rows")
    return int(any(issue.action == "fail" for issue in result.issues))


def simulate(*, out: Path, simulation: SimulationConfig = SimulationConfig(), num_workers: int = 2) -> int:
    """Write paired CT series of simulated patients, with lesions whose masks are exact.

    Args:
        out: Folder for the archive; patients that are there already are left alone.
        simulation: The patients, the scanner and the two kernels.
        num_workers: Processes.
    """
    from ltdiff.simulation.dataset import simulate as simulate_patients

    simulate_patients(out, config=simulation, num_workers=num_workers)
    return 0


def train(
    pairs: Path,
    *,
    out: Path,
    settings: Settings = Settings(),
    allow_changes: bool = False,
    tracking_uri: str | None = None,
) -> int:
    """Train the three phases on Ray and register the model. The same command resumes what was interrupted.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        out: Folder of the run; the model will be `out`/model.
        settings: Networks, diffusion, losses, phases: a YAML file or single values.
        allow_changes: Go on with a run that began with other settings (not of the networks) or data; its model says so.
        tracking_uri: MLflow server; without it MLFLOW_TRACKING_URI, or a SQLite file in `out`.
    """
    from ltdiff.training.finish_run import finish_run

    run_phases(list(PHASES), pairs=pairs, out=out, settings=settings, allow_changes=allow_changes)
    print(f"model: {finish_run(pairs, out=out, tracking_uri=tracking_uri)}")
    return 0


def run_phases(
    phases: Sequence[str], *, pairs: Path, out: Path, settings: Settings, allow_changes: bool = False
) -> None:
    """Train some of the phases in the run folder `out`, resuming; what `train` and the training jobs share."""
    from ltdiff.training.ray_driver import train_on_ray

    train_on_ray(list(phases), manifest_path=pairs, out=out, settings=settings, allow_changes=allow_changes)


def tune(
    pairs: Path,
    *,
    out: Path,
    search: SearchConfig = SearchConfig(),
    space: Path | None = None,
    settings: Settings = Settings(),
    train_best: bool = True,
    tracking_uri: str | None = None,
) -> int:
    """Search hyper-parameters by short trainings judged on validation pairs, then train the best at full length. Resumes.

    Args:
        pairs: Manifest written by `ltdiff pair`; its test pairs are not looked at.
        out: Folder for the trials, their table, the best settings (best.yaml) and the model trained with them.
        search: How many trials, how long, how chosen.
        space: YAML file with what is searched; without it the noise process and its schedule, the weights of the losses, the
            latent channels and the learning rates.
        settings: What is not searched, with the full length of the phases.
        train_best: Train and register the best settings at full length.
        tracking_uri: MLflow server; without it MLFLOW_TRACKING_URI, or a SQLite file in `out`.
    """
    from ltdiff.search.tune import search as search_settings

    print(
        search_settings(
            pairs,
            out=out,
            config=search,
            settings=settings,
            space=space,
            train_best=train_best,
            tracking_uri=tracking_uri,
        )
    )
    print(f"report: {out / 'report.md'}")
    return 0


def standardize(
    root: Path,
    *,
    model: str,
    out: Path,
    inference: InferenceConfig = InferenceConfig(),
    num_workers: int = 1,
    use_gpu: bool = False,
    force: bool = False,
    target_kernel: str | None = None,
) -> int:
    """Standardize a CT series, a volume file or a whole archive into derived series. Not for diagnostic use.

    Args:
        root: DICOM series, folder tree of them, or a NIfTI, NRRD or MHA file.
        model: Folder of a trained model, or models:/ltdiff@champion; or a folder of such folders, from which each series gets
            the model that was trained for its kernel and manufacturer.
        out: Folder for the derived series; those that are there already are left alone.
        inference: Decoding, steps, precision, seed.
        num_workers: Model actors.
        use_gpu: One GPU for each of them.
        force: Also standardize series outside what the model was trained for, or without a kernel; the output says so.
        target_kernel: The kernel to standardize to, where the models lead to several.
    """
    from ltdiff.inference.batch import standardize as standardize_tree

    return standardize_tree(
        root,
        model=resolve_model(model),
        out=out,
        inference=inference,
        num_workers=num_workers,
        use_gpu=use_gpu,
        force=force,
        target_kernel=target_kernel,
    )


def evaluate(
    pairs: Path,
    *,
    model: str,
    out: Path,
    mask: Path | None = None,
    features: Literal["pyradiomics", "catalogue"] | None = None,
    scoring: EvaluationConfig = EvaluationConfig(),
    inference: InferenceConfig = InferenceConfig(),
) -> int:
    """Score source, linear match and LTDiff++ on held-out pairs: CCC of radiomic features, relative error, image metrics.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        model: Folder of a trained model, or models:/ltdiff@champion.
        out: Folder for tables (CSV, Markdown) and figures (PNG).
        mask: Lesion mask: a volume file, a DICOM SEG, or a folder of DICOM SEG files.
        features: Short for --scoring.features: four classes of PyRadiomics, or the whole catalogue of 1,450.
        scoring: Which slices and regions.
        inference: Decoding, steps, precision, seed.
    """
    from ltdiff.evaluation.evaluate_model import evaluate_model

    scoring = replace(scoring, features=features or scoring.features)
    print(evaluate_model(pairs, model=resolve_model(model), out=out, mask=mask, config=scoring, inference=inference))
    print(f"report: {out / 'report.md'}")
    return 0


def compare(
    pairs: Path,
    *,
    out: Path,
    methods: str = "source,linear,residual_cnn,ltdiff",
    minutes: float = 30.0,
    test: Path | None = None,
    split: str | None = None,
    num_pairs: int | None = None,
    mask: Path | None = None,
    settings: Settings = Settings(),
    features: Literal["pyradiomics", "catalogue"] | None = None,
    scoring: EvaluationConfig = EvaluationConfig(),
) -> int:
    """Train several methods on the same pairs for the same time, and score them on the same held-out regions. Resumes.

    Args:
        pairs: Manifest written by `ltdiff pair`.
        out: Folder for the trainings, tables (CSV, Markdown) and figures (PNG).
        methods: Names, separated by commas, or "all": source, linear, combat, residual_cnn, unetpp, unetpp_no_skips, ddpm,
            diffusionct, stan_ct, ltdiff_paper, ltdiff, ltdiff_pretrained (from pretrained weights).
        minutes: Training time of each method. Trials of three learning rates come on top.
        test: Manifest whose pairs are scored instead, for example another patient's.
        split: "z:0.7" or "patient:0.7"; without it the manifest's own, or with --test all of the pairs train.
        num_pairs: Train on so many of the training pairs only, spread evenly.
        mask: Lesion mask of the scored pairs: a volume file, a DICOM SEG, or a folder of DICOM SEG files.
        settings: Networks, diffusion and losses of ltdiff; patches, batch and seed of all.
        features: Short for --scoring.features: four classes of PyRadiomics, or the whole catalogue of 1,450.
        scoring: Which regions.
    """
    from ltdiff.methods.compare import METHODS, compare_methods

    scoring = replace(scoring, features=features or scoring.features)
    names = METHODS if methods == "all" else [name.strip() for name in methods.split(",") if name.strip()]
    print(
        compare_methods(
            pairs,
            methods=names,
            out=out,
            minutes=minutes,
            settings=settings,
            test=test,
            split=split,
            num_pairs=num_pairs,
            mask=mask,
            config=scoring,
        )
    )
    print(f"report: {out / 'report.md'}")
    return 0


def calibrate(pairs: Path, *, model: str, num_workers: int = 2) -> int:
    """Learn from validation pairs what a model leaves over, for samples, maps and intervals; report the coverage on test pairs.

    Args:
        pairs: Manifest written by `ltdiff pair`; its split `val` calibrates, its split `test` is covered.
        model: Folder of a trained model; calibration.json is written into it. Export a registered one first.
        num_workers: Slices standardized at a time, and processes for the feature extraction.
    """
    from ltdiff.uncertainty.calibration import calibrate as calibrate_model

    if is_registered(model) or Path(model).absolute().is_relative_to(MODEL_CACHE):
        raise ValueError(
            f"{model} is what was registered and stays so: `ltdiff models export` it and calibrate the folder"
        )
    print(calibrate_model(pairs, model=Path(model), num_workers=num_workers))
    return 0


def uncertainty(
    series: Path, *, model: str, out: Path, mask: Path | None = None, num_workers: int = 2, force: bool = False
) -> int:
    """How far a standardized series can be trusted: a map of the standard deviation, and intervals of radiomic features.

    Args:
        series: Source: DICOM series or volume file.
        model: Folder of a calibrated model, or models:/ltdiff@champion.
        out: Folder for sd.nii.gz and features.csv.
        mask: Its regions: a volume file on the same grid, a DICOM SEG or RT Structure Set, or a folder with one of these.
        num_workers: Slices standardized at a time, and processes for the feature extraction.
        force: Also a series outside what the model was trained for; features.csv says what was outside.
    """
    from ltdiff.uncertainty.measure import measure_uncertainty

    measure_uncertainty(series, model=resolve_model(model), out=out, mask=mask, num_workers=num_workers, force=force)
    print(f"written to {out}")
    return 0


def radiomics(
    image: Path,
    mask: Path,
    *,
    out: Path | None = None,
    only: str | None = None,
    discretisation: CatalogueConfig = CatalogueConfig(),
) -> int:
    """Measure the feature catalogue, 1,450 features in eight classes, in every region of a mask.

    Args:
        image: DICOM series or volume file (NIfTI, NRRD, MHA).
        mask: Its regions: a volume file on the same grid, a DICOM SEG or RT Structure Set, or a folder with one of these.
        out: Table with a row per region, .parquet or .csv; without it one line per feature is printed.
        only: Some classes (GLCM25D, GLCM3D, GLRLM25D, ID, IH, NID25D, NID3D, GOH) or single features, separated by commas.
        discretisation: How HU become grey levels and histograms.
    """
    from ltdiff.radiomics.extract import check_table_path, extract_radiomics, to_text, write_table

    if out is not None:
        check_table_path(out)  # before minutes of work
    names = None if only is None else [name.strip() for name in only.split(",")]
    table = extract_radiomics(image, mask, config=discretisation, only=names)
    if out is None:
        print_lines(to_text(table))
        return 0
    write_table(table, out)
    print(f"{out}: {', '.join(table['roi'])}")
    return 0


def demo(*, out: Path = Path("demo")) -> int:
    """Simulate paired scans, train the three phases, standardize held-out series and score them. Resumes.

    Args:
        out: Folder for everything the demo makes.
    """
    from ltdiff.commands.demo import DERIVED_FOLDER, REPORT_FOLDER, run_demo

    print(run_demo(out))
    print(f"derived series: {out / DERIVED_FOLDER}\nreport with pictures: {out / REPORT_FOLDER / 'report.md'}")
    return 0


def is_registered(model: str) -> bool:
    """Whether a model is named by a models:/ URI, not by its folder."""
    return model.startswith("models:/")


def resolve_model(model: str) -> Path:
    """The folder of a model named by its folder or by a models:/ URI, which is downloaded and verified."""
    if not is_registered(model):
        return Path(model)
    from ltdiff.registry import download

    return download(model, out_dir=MODEL_CACHE)


_FUNCTIONS: tuple[Callable[..., int], ...] = (
    pair,
    simulate,
    train,
    tune,
    standardize,
    evaluate,
    compare,
    calibrate,
    uncertainty,
    radiomics,
    demo,
)
COMMANDS: dict[str, Any] = {function.__name__: function for function in _FUNCTIONS} | {"models": cli_models.COMMANDS}


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(COMMANDS))


if __name__ == "__main__":
    main()
