"""The index of the Imaging Data Commons: the CT series of its open collections, with kernel and scan. No network is asked.

The package `idc-index-data` brings the index as Parquet files, with a row for each series; a folder of these files will do, too:

idc_index.parquet           patient, study, scanner, description, licence, address
collections_index.parquet   titles, licences and citations of the collections
ct_index.parquet            kernel, grid, dose; without it, as in the package, descriptions in NLST's form name the kernel
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from ltdiff.system.text import printable, quoted

MIN_SLICES = 10
"""Of a series; a shorter one is a part of a scan, or one for planning."""
INDEX_FILE, CT_FILE, COLLECTIONS_FILE = "idc_index.parquet", "ct_index.parquet", "collections_index.parquet"

_COLUMNS = {
    "PatientID": "patient",
    "StudyInstanceUID": "study_uid",
    "SeriesInstanceUID": "series_uid",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "SeriesDescription": "description",
    "instanceCount": "num_slices",
    "series_size_MB": "size_mb",
    "license_short_name": "licence",
    "source_DOI": "doi",
    "series_aws_url": "url",
}
"""Those that are read of the index, and what they are called here."""
_OF_A_SCAN = ["patient", "study_uid", "manufacturer", "model", "num_slices"]
"""Two reconstructions of one scan agree in these."""
_CT_OF_A_SCAN = [
    *("Rows", "Columns", "PixelSpacing_row_mm", "PixelSpacing_col_mm", "ReconstructionDiameter", "SliceThickness"),
    *("KVP", "GantryDetectorTilt", "SpiralPitchFactor", "XRayTubeCurrent_min", "XRayTubeCurrent_max"),
]
"""And in these columns of ct_index.parquet."""
_FIELDS = ("year", "image", "maker", "scanner", "kernel", "diameter_mm", "thickness_mm", "kvp", "exposure", "current", "pitch")
"""Of a SeriesDescription of NLST, such as "0,OPA,SE,VZOOM,B50f,360,2,120,75,40,na" (TCIA wiki, NLST CT Images, General Details:
11 coded values with commas between them). All but kernel, diameter and thickness are only compared."""
_AXIAL = ("OPA", "OSA")
"""The images of NLST's axial series: original, primary or secondary (as GE calls a later reconstruction of the raw data), axial.
OPL is a localizer, D… is derived."""
_AXIAL_TYPE = r"^ORIGINAL\\(?:PRIMARY|SECONDARY)\\AXIAL"
"""The same in an ImageType."""


def find_index() -> Path:
    """The folder of the installed package idc-index-data. ValueError where it is not installed."""
    try:
        import idc_index_data
    except ImportError as error:
        raise ValueError("find-pairs needs the package idc-index-data: pip install 'ltdiff[idc]'") from error
    return Path(idc_index_data.__file__).parent


def read_release(index: Path) -> str:
    """The version of an index, of which the first number is the release of the data; "" where it does not say."""
    metadata = pq.read_schema(index / INDEX_FILE).metadata or {}
    return metadata.get(b"idc_index_data_version", b"").decode()


def read_ct_series(index: Path, collection: str) -> pd.DataFrame:
    """The original axial CT series of a collection with a known kernel and MIN_SLICES or more, one row each.

    Columns: those of the index as they are called here, `kernel`, `slice_thickness_mm`, `diameter_mm` (of the reconstruction),
    and `scan`, a number that series share which differ in nothing that the index says but the kernel.

    Raises:
        ValueError: not such an index, no CT series of this collection, or none with a kernel.
    """
    only = [("collection_id", "==", collection), ("Modality", "==", "CT")]
    table = _read(index / INDEX_FILE, columns=[*_COLUMNS, "analysis_result_id"], filters=only)
    series = table[table["analysis_result_id"].isna()].drop(columns="analysis_result_id").rename(columns=_COLUMNS)
    if series.empty:
        raise ValueError(f"the index has no CT series of a collection {quoted(collection)}")
    path = index / CT_FILE
    series = series[series["num_slices"] >= MIN_SLICES]
    series, fields = _join_ct(series, path) if path.is_file() else _parse_descriptions(series)
    if series.empty:
        raise ValueError(
            f"no series of the collection {quoted(collection)} has a known kernel: its descriptions do not name it, as those of "
            f"nlst do, so {CT_FILE} of the same release is needed in the folder that --index names"
        )
    scan = series.groupby([*_OF_A_SCAN, *fields], dropna=False, sort=False).ngroup()
    return series.assign(scan=scan).drop(columns=[*fields, "description"]).reset_index(drop=True)


def read_citations(index: Path, dois: Iterable[str]) -> pd.DataFrame:
    """The data sets with these DOIs, in their order: `doi`, `title`, `licence`, its address `licence_url`, `citation` (HTML).

    Raises:
        ValueError: not such an index.
    """
    wanted = {doi.lower(): number for number, doi in enumerate(dois)}
    found = {}
    for sources in _read(index / COLLECTIONS_FILE, columns=["sources"])["sources"]:
        for source in sources if sources is not None else ():
            doi = (source["source_doi"] or "").lower()
            if doi in wanted:
                licence = source["license"] or {}
                found[doi] = {
                    "doi": doi,
                    "title": source["source_title"],
                    "licence": licence.get("license_short_name"),
                    "licence_url": licence.get("license_url"),
                    "citation": source["citation"],
                }
    rows = [found.get(doi, {"doi": doi}) for doi in wanted]
    columns = ["doi", "title", "licence", "licence_url", "citation"]
    return pd.DataFrame(rows, columns=columns).fillna("")


def _read(path: Path, **options: object) -> pd.DataFrame:
    try:
        return pq.read_table(path, **options).to_pandas()
    except FileNotFoundError as error:
        raise ValueError(f"{printable(path.parent)} is no index of the Imaging Data Commons: it has no {path.name}") from error
    except (ValueError, KeyError, OSError) as error:  # what pyarrow raises for another kind of file, or without a column
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{printable(path)} is not as the package idc-index-data 25 has it: {reason}") from error


def _join_ct(series: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Series with what ct_index.parquet says of them, and the columns in which the series of a scan agree."""
    ct = _read(path, columns=["SeriesInstanceUID", "ImageType", "ConvolutionKernel", *_CT_OF_A_SCAN])
    joined = series.merge(ct.rename(columns={"SeriesInstanceUID": "series_uid"}), on="series_uid")
    kernel = joined["ConvolutionKernel"].map(_join_values)
    is_axial = joined["ImageType"].map(_join_values).str.contains(_AXIAL_TYPE)
    joined = joined.assign(
        kernel=kernel, slice_thickness_mm=joined["SliceThickness"], diameter_mm=joined["ReconstructionDiameter"]
    ).drop(columns=["ConvolutionKernel", "ImageType"])
    return joined[is_axial & (kernel != "")], _CT_OF_A_SCAN


def _join_values(values: Iterable[str] | None) -> str:
    """A multi-valued element as a header's text; kernels of `ltdiff pair` are written so."""
    return "\\".join(values) if values is not None else ""


def _parse_descriptions(series: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Series with what their descriptions say, those without NLST's form left out; as `_join_ct`."""
    described = series[series["description"].str.count(",") == len(_FIELDS) - 1]
    fields = described["description"].str.split(",", expand=True).reindex(columns=range(len(_FIELDS)))
    names = [f"said_{name}" for name in _FIELDS]
    fields = fields.set_axis(names, axis=1)
    described = described.join(fields)
    described = described[described["said_image"].isin(_AXIAL) & (described["said_kernel"] != "")]
    numbers = {
        "slice_thickness_mm": pd.to_numeric(described["said_thickness_mm"], errors="coerce"),
        "diameter_mm": pd.to_numeric(described["said_diameter_mm"], errors="coerce"),
    }
    others = [name for name in names if name not in ("said_kernel", "said_image")]
    return described.drop(columns="said_image").rename(columns={"said_kernel": "kernel"}).assign(**numbers), others
