"""The spectral match and LTDiff++ without pairs, where the source has another dose than the target or was noise-reduced: a table.

    python tests/bench/unpaired_doses.py OUT [--minutes 8] [--seeds 77] [--only half,quarter]

Six simulated patients: two are the source, two others the target, and the last two are scored against another scan with the
target's protocol. The floor of all errors is what one more such scan reaches. Each method has as long on one core. OUT/table.md
is written anew after each setting; the same command goes on where it was stopped.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from method_table import compare, make_table
from noise_reduced_pairs import Denoise, average_similar_patches, reduce_series, train_denoiser

from ltdiff.data.manifest import write_manifest
from ltdiff.data.manifest_rows import build_manifest
from ltdiff.data.repeats import add_repeats
from ltdiff.data.series_pair import SeriesPair
from ltdiff.dicom.series import Series, find_series
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.dataset import SOURCE_NAME, TARGET_NAME, patient_folder, simulate_patient
from ltdiff.simulation.kernels import Kernel, NoiseReduction

TARGET_DOSE = 0.08
SOURCES, TARGETS, SCORED = (0, 1), (2, 3), (4, 5)
BETWEEN = Kernel("between", (1.0, 0.65, 0.33, 0.1, 0.0))
"""Sharper than `smooth`, and softer than `Br40-like`."""
METHODS = "source,spectral,ltdiff"


def settings(seed: int) -> dict[str, tuple[SimulationConfig, Denoise | None]]:
    """How the source was scanned, and what was done to it then, by name."""
    same = SimulationConfig(num_patients=6, num_slices=12, doses=(TARGET_DOSE,), seed=seed)
    factors = {"same": 1.0, "half": 0.5, "quarter": 0.25, "double": 2.0, "fourfold": 4.0}
    return {
        **{name: (replace(same, doses=(factor * TARGET_DOSE,)), None) for name, factor in factors.items()},
        "br40_quarter": (replace(same, doses=(0.25 * TARGET_DOSE,), source_kernel="Br40-like"), None),
        "between": (replace(same, doses=(0.35 * TARGET_DOSE,), source_kernel=BETWEEN.name, custom_kernels=(BETWEEN,)), None),
        "reduced": (replace(same, iterative=NoiseReduction(5, 40.0)), None),
        "non_local_means": (same, partial(average_similar_patches, strength_hu=20.0)),
        "learned": (same, lambda hu: train_denoiser(same)(hu)),
    }


def scan(folder: Path, config: SimulationConfig, patient: int, side: str, denoise: Denoise | None = None) -> Series:
    """One series of a patient, simulated if it is not there yet."""
    if not patient_folder(folder, patient).exists():
        simulated = simulate_patient(folder, config, patient)
        if denoise is not None:
            reduce_series(simulated / SOURCE_NAME, denoise)
    (series,), _ = find_series(patient_folder(folder, patient) / side)
    return series


def make_manifests(name: str, seed: int, folder: Path) -> tuple[Path, Path]:
    """The manifest without pairs, and that of the scored pairs with their repeats, in the folder of a setting."""
    unpaired, scored, out = folder / "unpaired.parquet", folder / "scored.parquet", folder.parent
    if scored.is_file():
        return unpaired, scored
    (source, denoise), (target, _) = settings(seed)[name], settings(seed)["same"]
    source_scans, target_scans = out / f"scans_{name}_{seed}", out / f"scans_same_{seed}"
    again, repeated = out / f"scans_again_{seed}", out / f"scans_repeated_{seed}"
    sources = [scan(source_scans, source, patient, SOURCE_NAME, denoise) for patient in SOURCES]
    targets = [scan(target_scans, target, patient, TARGET_NAME) for patient in TARGETS]
    pairs = [
        SeriesPair.of(
            scan(source_scans, source, patient, SOURCE_NAME, denoise),
            scan(again, replace(target, repeat=1), patient, TARGET_NAME),
        )
        for patient in SCORED
    ]
    repeats = [scan(repeated, replace(target, repeat=2), patient, TARGET_NAME) for patient in SCORED]
    manifest, _ = add_repeats(build_manifest(pairs).assign(split="test"), [one.path.parent for one in repeats])
    unpaired.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(build_manifest([], sources=sources, targets=targets).assign(split="train"), unpaired)
    write_manifest(manifest, scored)
    return unpaired, scored


def run(name: str, seed: int, minutes: float, folder: Path) -> Path:
    """Make the manifests of a setting and compare the methods on them."""
    unpaired, scored = make_manifests(name, seed, folder)
    return compare([unpaired, "--test", scored, "--methods", METHODS], folder / "comparison", minutes=minutes, seed=seed)


if __name__ == "__main__":
    make_table(__doc__, names=settings(0), seeds="77", run=run)
