"""`simulate`: a folder of patients, each a pair of CT series with two kernels and the exact masks of its lesions.

    out/simulation.json               the configuration; another one is refused in the same folder
    out/patient_000/source/*.dcm      one acquisition …
    out/patient_000/target/*.dcm      … reconstructed twice
    out/patient_000/lesions.dcm       DICOM SEG of the target series, segment n = lesion n; absent without lesions
    out/patient_000/lesions.json      what each lesion is

A patient's folder appears complete or not at all, and one that is there is not simulated again.
"""

import json
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import SeriesIdentity, write_ct_series
from ltdiff.dicom.write_segmentation import write_segmentation
from ltdiff.simulation.config import SimulationConfig
from ltdiff.simulation.reconstruction import SimulatedScan, scan_patient
from ltdiff.system.atomic_files import complete_folder, remove_partial_folders
from ltdiff.system.folder_claim import claim
from ltdiff.system.processes import OwnProcesses
from ltdiff.system.progress import progress

CONFIG_NAME, LESIONS_JSON_NAME, LESIONS_DICOM_NAME = "simulation.json", "lesions.json", "lesions.dcm"
SOURCE_NAME, TARGET_NAME = "source", "target"
_FIRST_ACQUISITION = datetime(2000, 1, 1, 8)


def simulate(out: Path, *, config: SimulationConfig, num_workers: int = 1) -> list[Path]:
    """Simulate the patients that are missing in `out`, by `num_workers` processes; returns all patients' folders.

    One run at a time may write to `out`. Raises ValueError when `out` holds a simulation with another configuration.
    """
    claim(out / CONFIG_NAME, asdict(config), ignored=("num_patients",))
    remove_partial_folders(out)
    folders = [patient_folder(out, patient) for patient in range(config.num_patients)]
    missing = [patient for patient, folder in enumerate(folders) if not folder.exists()]
    finished = _simulate_patients(out, config, missing, num_workers)
    for _ in progress(finished, name="simulate", unit="patient", total=len(missing)):
        pass
    return folders


def patient_folder(out: Path, patient: int) -> Path:
    """Folder of patient number `patient`."""
    return out / f"patient_{patient:03d}"


def simulate_patient(out: Path, config: SimulationConfig, patient: int) -> Path:
    """Simulate one patient into its folder and return the folder."""
    scan = scan_patient(config, patient)
    folder = patient_folder(out, patient)
    with complete_folder(folder) as growing:
        for name, hu in ((SOURCE_NAME, scan.source_hu), (TARGET_NAME, scan.target_hu)):
            identity = _identity(config, patient, is_target=name == TARGET_NAME)
            write_ct_series(hu, out_dir=growing / name, identity=identity, spacing_mm=scan.spacing_mm, origin_mm=scan.origin_mm)
        _write_lesions(scan, growing)
    return folder


def _simulate_patients(out: Path, config: SimulationConfig, patients: list[int], num_workers: int) -> Iterator[Path]:
    if num_workers == 1 or len(patients) < 2:
        yield from (simulate_patient(out, config, patient) for patient in patients)
        return
    with OwnProcesses(num_workers) as pool:
        futures = [pool.submit(simulate_patient, out, config, patient) for patient in patients]
        for future in as_completed(futures):
            yield future.result()


def _identity(config: SimulationConfig, patient: int, *, is_target: bool) -> SeriesIdentity:
    """The same configuration and number give the same UIDs; how many patients there are makes no difference.

    A patient who is scanned again has not moved in between: both scans have one frame of reference.
    """
    parameters = asdict(config)
    del parameters["num_patients"]
    key, place = (json.dumps([of_scan, patient]) for of_scan in (parameters, parameters | {"repeat": None}))
    source_kernel, target_kernel = config.kernels()
    return SeriesIdentity(
        patient_id=f"SIM{config.seed:04d}-{patient:03d}",
        study_uid=stable_uid("study", key),
        frame_of_reference_uid=stable_uid("frame of reference", place),
        series_uid=stable_uid("target" if is_target else "source", key),
        series_number=2 if is_target else 1,
        kernel=(target_kernel if is_target else source_kernel).name,
        slice_thickness_mm=config.thickness_mm(patient),
        acquired=_FIRST_ACQUISITION + timedelta(days=patient),
        study_description="Simulated chest CT",
        series_description=f"Simulated, dose {config.dose(patient):g}",
    )


def _write_lesions(scan: SimulatedScan, folder: Path) -> None:
    lesions = [
        {key: value for key, value in vars(lesion).items() if key != "parts"}
        | {"num_voxels": int((scan.labels == lesion.label).sum())}
        for lesion in scan.phantom.lesions
    ]
    (folder / LESIONS_JSON_NAME).write_text(json.dumps(lesions, indent=2))
    if scan.labels.any():
        (target,), _ = find_series(folder / TARGET_NAME)
        write_segmentation(target, scan.labels, path=folder / LESIONS_DICOM_NAME, algorithm="ltdiff phantom")
