"""A small index of the Imaging Data Commons, with the columns and types of idc-index-data 25."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

DOI, LICENCE = "10.7937/TCIA.HMQ8-J677", "CC BY 4.0"
SIEMENS, GE = ("SIEMENS", "Volume Zoom"), ("GE MEDICAL SYSTEMS", "LightSpeed Plus")
SPREAD = {  # patient → scanner, kernels
    "100001": (SIEMENS, ("B30f", "B50f")),
    "100002": (SIEMENS, ("B50f", "B30f")),
    "100003": (SIEMENS, ("B30f", "B50f", "B80f")),
    "100004": (("SIEMENS", "Sensation 16"), ("B30f", "B50f")),
    "200001": (GE, ("STANDARD", "BONE")),
    "200002": (GE, ("STANDARD", "LUNG")),
    "200003": (GE, ("STANDARD",)),
}


def describe(kernel: str, *, image: str = "OPA", diameter: str = "360", thickness: str = "2") -> str:
    """A SeriesDescription of NLST."""
    return f"0,{image},SE,VZOOM,{kernel},{diameter},{thickness},120,75,40,na"


def row(patient: str, kernel: str, *, scanner: tuple[str, str] = SIEMENS, study: str = "1", number: int = 0, **changes) -> dict:
    """A series of the index."""
    uuid = f"{patient}-{study}-{kernel}-{number}".replace(" ", "_").lower()
    series = {
        "collection_id": "nlst",
        "analysis_result_id": None,
        "PatientID": patient,
        "SeriesInstanceUID": f"1.2.{patient}.{study}.{sum(map(ord, kernel))}.{number}",
        "StudyInstanceUID": f"1.2.{patient}.{study}",
        "source_DOI": DOI.lower(),
        "StudyDate": "1999-01-02",
        "Modality": "CT",
        "Manufacturer": scanner[0],
        "ManufacturerModelName": scanner[1],
        "SeriesDescription": describe(kernel),
        "instanceCount": 150,
        "license_short_name": LICENCE,
        "series_aws_url": f"s3://idc-open-data/{uuid}/*",
        "series_size_MB": 80.0,
    }
    return series | changes


def spread_rows() -> list[dict]:
    """One scan of each of several patients on three scanners."""
    return [row(patient, kernel, scanner=scanner) for patient, (scanner, kernels) in SPREAD.items() for kernel in kernels]


def write_index(folder: Path, rows: list[dict], *, ct: list[dict] | None = None) -> Path:
    """Write the files of an index; `ct` are rows of ct_index.parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pandas(pd.DataFrame(rows))
    fields = [pa.field(f.name, pa.large_string() if pa.types.is_null(f.type) else f.type) for f in table.schema]
    table = table.cast(pa.schema(fields)).replace_schema_metadata({"idc_index_data_version": "25.0.5-0-gf08b112"})
    pq.write_table(table, folder / "idc_index.parquet")
    source = {
        "source_title": "Data from the National Lung Screening Trial (NLST)",
        "source_doi": DOI.lower(),
        "license": {"license_url": "https://creativecommons.org/licenses/by/4.0/", "license_short_name": LICENCE},
        "citation": f"NLST Research Team &amp; others. (2013). <i>Data from\nNLST</i>. https://doi.org/{DOI}",
    }
    collections = [{"collection_id": "nlst", "sources": [source]}, {"collection_id": "empty", "sources": []}]
    pq.write_table(pa.Table.from_pylist(collections), folder / "collections_index.parquet")
    if ct is not None:
        pq.write_table(pa.Table.from_pylist(ct), folder / "ct_index.parquet")
    return folder


def ct_row(series: dict, kernel: list[str] | None, **changes) -> dict:
    """What ct_index.parquet says of a series."""
    return {
        "SeriesInstanceUID": series["SeriesInstanceUID"],
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "ConvolutionKernel": kernel,
        "Rows": 512,
        "Columns": 512,
        "PixelSpacing_row_mm": 0.7,
        "PixelSpacing_col_mm": 0.7,
        "ReconstructionDiameter": 360.0,
        "SliceThickness": 1.5,
        "KVP": 120.0,
        "GantryDetectorTilt": 0.0,
        "SpiralPitchFactor": float("nan"),
        "XRayTubeCurrent_min": 100.0,
        "XRayTubeCurrent_max": 140.0,
    } | changes
