"""Images for a program that is not ours: DICOM series that tell nothing of the patient and differ in their pixels alone."""

from datetime import datetime
from pathlib import Path

from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import SeriesIdentity, write_ct_series
from ltdiff.inference.method import Slices

ACQUIRED = datetime(2000, 1, 1)


def write_anonymous_series(
    hu: Slices, *, out_dir: Path, key: str, spacing_mm: tuple[float, float, float], slice_thickness_mm: float
) -> None:
    """Write HU (Z, Y, X), axial with z ascending, as out_dir/slice_0001.dcm …; spacing is (z, y, x).

    The header has no kernel, so that no program can tell a standardized image from another one by it; UIDs are made of `key`.
    """
    identity = SeriesIdentity(
        patient_id="anonymous",
        study_uid=stable_uid("anonymous study", key),
        frame_of_reference_uid=stable_uid("anonymous frame of reference", key),
        series_uid=stable_uid("anonymous series", key),
        series_number=1,
        kernel="",
        slice_thickness_mm=slice_thickness_mm,
        acquired=ACQUIRED,
        manufacturer_model="anonymous series",
        series_description="ltdiff, not for diagnostic use",
    )
    write_ct_series(hu, out_dir=out_dir, identity=identity, spacing_mm=spacing_mm)
