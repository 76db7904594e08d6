"""The header of one CT slice: what is read, what must be in it, what makes a file unusable."""

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage

from ltdiff.dicom.dicom_file import (
    MAX_EXTRA_BYTES,
    MAX_PIXELS,
    MULTI_FRAME_CT,
    BadFile,
    ParsedFile,
    SkippedFile,
    open_file,
    parse_file,
    uid_name,
    without_warnings,
)
from ltdiff.dicom.elements import (
    has_value,
    integer_of,
    number_of,
    numbers_of,
    optional_integer_of,
    optional_number_of,
    optional_uid_of,
    tag_of,
    text_of,
    texts_of,
    uid_of,
)
from ltdiff.dicom.protocol_tags import KEYWORDS as PROTOCOL_KEYWORDS
from ltdiff.dicom.protocol_tags import PRIVATE_TAGS, noise_reduction, scanner_model
from ltdiff.dicom.raw_data import KEYWORDS as RAW_DATA_KEYWORDS
from ltdiff.dicom.raw_data import RawData, raw_data_of, said
from ltdiff.dicom.scan import FileStamp
from ltdiff.system.text import printable
from ltdiff.system.traces import describe_unforeseen

ORTHONORMAL_TOLERANCE = 1e-3
"""Many scanners write the direction cosines with four decimals."""
SMALLEST_SLOPE, LARGEST_SLOPE, LARGEST_INTERCEPT_HU = 1e-3, 1e3, 1e5
"""With others, 16 bits cannot hold a CT."""
MAX_COMPRESSED_EXTRA_BYTES = 2**20
"""Of a compressed frame, above twice what its pixels take: offset tables, and what an encoder makes of noise."""
RESCALE_TYPES = ("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
"""Of which a CT in HU has the second, or none (PS3.3 C.11.1.1.2)."""
MATERIALS = ("MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "IODINE", "Z_EFF", "ZEFF")
"""In ImageType, as the standard (PS3.3 C.8.15.3.9) and scanners before it name images of two energies that are not in HU."""
LTDIFF_DERIVATION = "Kernel standardization by ltdiff"
"""Beginning of the DerivationDescription of our own series."""

# fmt: off
_KEYWORDS = [
    "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer",
    "DerivationDescription", "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "IssuerOfPatientID", "SliceThickness", "ConvolutionKernel", "StudyInstanceUID", "SeriesInstanceUID",
    "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "ModalityLUTSequence", "SeriesNumber", "SourceImageSequence", *RAW_DATA_KEYWORDS,
    *PROTOCOL_KEYWORDS,
]
# fmt: on
_TAGS = PRIVATE_TAGS.union(int(tag_of(keyword)) for keyword in _KEYWORDS)


MAX_SPACING_MM = 20.0
"""Of a CT's pixels: whole bodies of 60 cm on 30 of them. What is larger was written as another type or in another unit."""


@dataclass(frozen=True)
class Geometry:
    """Where a slice lies: PS3.3 C.7.6.2 (Image Plane)."""

    rows: int
    columns: int
    spacing_mm: tuple[float, float]  # between rows (y), between columns (x), as in PixelSpacing
    orientation: tuple[float, float, float, float, float, float]
    position_mm: tuple[float, float, float]

    @property
    def normal(self) -> tuple[float, float, float]:
        """Unit normal: row direction × column direction."""
        ax, ay, az, bx, by, bz = self.orientation
        normal = (ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx)
        length = math.hypot(*normal)
        return normal[0] / length, normal[1] / length, normal[2] / length

    @cached_property
    def z_mm(self) -> float:
        """Position along the normal."""
        return _dot(self.normal, self.position_mm)


@dataclass(frozen=True)
class PixelFormat:
    """How stored values become HU: PS3.3 C.7.6.3 and C.8.2.1."""

    transfer_syntax: UID
    bits_stored: int
    signed: bool
    slope: float
    intercept_hu: float
    padding: tuple[int, int] | None  # lowest and highest stored value that means "no pixel"


@dataclass(frozen=True)
class Header:
    """What ltdiff needs to know of one CT slice; every value is checked. Absent texts are ""."""

    path: Path
    stamp: FileStamp
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str
    frame_of_reference_uid: str
    patient_key: str
    has_patient_id: bool
    kernel: str
    manufacturer: str
    scanner_model: str
    noise_reduction: str  # iterative or learned reconstruction, with its strength
    slice_thickness_mm: float | None
    person_key: str  # of name, birth date and sex: several under one PatientID may be several patients
    raw_data: RawData = field(repr=False)
    instance_number: int | None
    derived: bool
    standardized_by_ltdiff: bool
    source_sop_instance_uid: str  # of the image that this one was made of; "" where there is not exactly one
    geometry: Geometry
    pixel_format: PixelFormat
    digest: int = 0  # 8 bytes that stand for all of it but path and stamp


def read_header(path: Path) -> Header:
    """Read and check the header of one file, without its pixels.

    Raises SkippedFile or BadFile (both ValueError) with a sentence that names the file and the offending value.
    """
    with named_errors(path), open_file(path) as file:
        return parse_header(path, file)[0]


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Put the name of the file before the sentence of a SkippedFile or BadFile, which whatever else is raised becomes."""
    try:
        yield
    except (SkippedFile, BadFile) as error:
        error.args = (f"{printable(path)} {error}",)
        raise
    except OSError as error:
        raise BadFile(f"{printable(path)} cannot be read ({error.strerror})", is_of_folder=True, may_pass=True) from error
    except Exception as error:  # as nobody foresaw
        raise BadFile(f"{printable(path)} {describe_unforeseen(error)}", is_of_folder=True, may_pass=True) from error


def parse_header(path: Path, file: BinaryIO, *, complete: bool = False) -> tuple[Header, ParsedFile]:
    """The checked header of an open file, and what it was made of, or all elements but the pixels (`complete`)."""
    with without_warnings():
        parsed = parse_file(file, tags=None if complete else _TAGS)
        _check_is_ct_slice(parsed)
        return _checked_header(path, parsed), parsed


def hashed(*parts: str) -> str:
    """12 hex digits that stand for identifying values and do not give them away in a report."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _check_is_ct_slice(parsed: ParsedFile) -> None:
    sop_class, modality = text_of(parsed.dataset, "SOPClassUID"), text_of(parsed.dataset, "Modality")
    if sop_class in MULTI_FRAME_CT:
        raise BadFile("is a multi-frame (enhanced) CT, which is not supported: convert it to single slices")
    if sop_class != CTImageStorage:
        raise SkippedFile(f"is no CT image but {uid_name(sop_class)}" if sop_class else "has no SOPClassUID")
    if modality not in ("CT", ""):
        raise SkippedFile("is no CT image: its Modality is another")
    if "LOCALIZER" in texts_of(parsed.dataset, "ImageType"):
        raise SkippedFile("is a localizer")
    if not parsed.num_pixel_bytes:
        raise SkippedFile("has no PixelData", series_instance_uid=uid_of(parsed.dataset, "SeriesInstanceUID"))


def _checked_header(path: Path, parsed: ParsedFile) -> Header:
    series_uid = uid_of(parsed.dataset, "SeriesInstanceUID")
    try:
        _check_frame(parsed.dataset)
        _check_unit(parsed.dataset)
        header = _header(path, parsed)
        _check_size(header.geometry, parsed)
    except BadFile as error:
        raise BadFile(str(error), series_instance_uid=series_uid) from error
    except Exception as error:  # what nobody foresaw costs the series, never the archive
        raise BadFile(describe_unforeseen(error), series_instance_uid=series_uid, may_pass=True) from error
    return header


def _check_frame(dataset: Dataset) -> None:
    if (optional_number_of(dataset, "NumberOfFrames") or 1) > 1:
        raise BadFile("has several frames, which is not supported: convert it to single slices")
    for keyword, needed in (("SamplesPerPixel", 1), ("BitsAllocated", 16)):
        if (value := integer_of(dataset, keyword)) != needed:
            raise BadFile(f"has {keyword} {value} where a CT slice has {needed}")
    optional_integer_of(dataset, "SeriesNumber")  # nothing but the derived series needs it, whose number comes from it
    if text_of(dataset, "PhotometricInterpretation") != "MONOCHROME2":
        raise BadFile("has another PhotometricInterpretation than MONOCHROME2, which a CT slice has")


def _check_unit(dataset: Dataset) -> None:
    """Refuse values that are not HU, by what the file says of them."""
    rescale_type = text_of(dataset, "RescaleType").upper()
    if rescale_type not in ("", "HU"):
        named = f"RescaleType {rescale_type}" if rescale_type in RESCALE_TYPES else "a RescaleType other than HU"
        raise BadFile(f"has {named}: its values are not Hounsfield units")
    if has_value(dataset, "ModalityLUTSequence"):
        raise BadFile("has a ModalityLUTSequence, which is not supported, where a CT slice has slope and intercept")
    image_type = "\\".join(texts_of(dataset, "ImageType")[2:]).upper().replace(" ", "_")
    material = next((material for material in MATERIALS if material in image_type), None)
    if material and "REMOVED" not in image_type:
        raise BadFile(f"has {material} in its ImageType: its values are not Hounsfield units")


def _check_size(geometry: Geometry, parsed: ParsedFile) -> None:
    num_pixels = geometry.rows * geometry.columns
    size = f"{geometry.rows}×{geometry.columns} pixels"
    if not 0 < num_pixels <= MAX_PIXELS or geometry.rows < 0:
        raise BadFile(f"claims {size}, which is not the size of a CT slice")
    if parsed.num_bytes > 8 * num_pixels + MAX_EXTRA_BYTES:
        raise BadFile(f"has {parsed.num_bytes} bytes, far more than {size} take")
    if parsed.layout.is_encapsulated and parsed.num_pixel_bytes > 4 * num_pixels + MAX_COMPRESSED_EXTRA_BYTES:
        raise BadFile(f"holds a compressed frame of {parsed.num_pixel_bytes} bytes where {size} take {2 * num_pixels}")
    if parsed.transfer_syntax.is_encapsulated:
        return
    if parsed.layout.is_encapsulated:
        raise BadFile("wraps its pixels as if they were compressed, and its TransferSyntaxUID says that they are not")
    if parsed.num_pixel_bytes < 2 * num_pixels:
        raise BadFile(f"is truncated: {parsed.num_pixel_bytes} bytes of pixels where {size} take {2 * num_pixels}")
    if parsed.layout.num_pixel_bytes > parsed.layout.num_bytes_left:
        raise BadFile(f"claims {parsed.layout.num_pixel_bytes} bytes of pixels, and holds {parsed.layout.num_bytes_left}")


def _patient_key(parsed: ParsedFile) -> str:
    """Of the patient; where PatientID is empty, as after de-identification, of the study: else all would be one patient."""
    patient_id = text_of(parsed.dataset, "PatientID")
    if not patient_id:
        return hashed("study", uid_of(parsed.dataset, "StudyInstanceUID"))
    return hashed(patient_id, text_of(parsed.dataset, "IssuerOfPatientID"))


def _header(path: Path, parsed: ParsedFile) -> Header:
    dataset = parsed.dataset
    header = Header(
        path=path,
        stamp=FileStamp.of(path),
        sop_instance_uid=uid_of(dataset, "SOPInstanceUID"),
        series_instance_uid=uid_of(dataset, "SeriesInstanceUID"),
        study_instance_uid=uid_of(dataset, "StudyInstanceUID"),
        frame_of_reference_uid=optional_uid_of(dataset, "FrameOfReferenceUID"),
        patient_key=_patient_key(parsed),
        has_patient_id=bool(text_of(dataset, "PatientID")),
        kernel=text_of(dataset, "ConvolutionKernel"),
        manufacturer=text_of(dataset, "Manufacturer"),
        scanner_model=scanner_model(dataset),
        noise_reduction=noise_reduction(dataset),
        slice_thickness_mm=optional_number_of(dataset, "SliceThickness"),
        person_key=hashed(*(said(dataset, f"Patient{part}") for part in ("Name", "BirthDate", "Sex"))),
        raw_data=raw_data_of(dataset),
        instance_number=optional_integer_of(dataset, "InstanceNumber"),
        derived=texts_of(dataset, "ImageType")[:1] == ["DERIVED"],
        standardized_by_ltdiff=text_of(dataset, "DerivationDescription").startswith(LTDIFF_DERIVATION),
        source_sop_instance_uid=_source_uid(dataset),
        geometry=_geometry(dataset),
        pixel_format=_pixel_format(dataset, parsed.transfer_syntax),
    )
    values = [value for name, value in vars(header).items() if name not in ("path", "stamp", "digest")]
    digest = hashlib.blake2b(repr(values).encode(), digest_size=8).digest()
    return replace(header, digest=int.from_bytes(digest, "little", signed=True))


def _source_uid(dataset: Dataset) -> str:
    try:
        (source,) = dataset.get("SourceImageSequence") or []
        return uid_of(source, "ReferencedSOPInstanceUID")
    except Exception:  # none, several or a broken one: a header is not worse for it
        return ""


def _geometry(dataset: Dataset) -> Geometry:
    spacing_y, spacing_x = numbers_of(dataset, "PixelSpacing", count=2)
    if min(spacing_y, spacing_x) <= 0:
        raise BadFile(f"has PixelSpacing {[spacing_y, spacing_x]} where both must be above 0")
    if max(spacing_y, spacing_x) > MAX_SPACING_MM:
        raise BadFile(f"has PixelSpacing {[spacing_y, spacing_x]}, and no CT has pixels of more than {MAX_SPACING_MM:g} mm")
    x, y, z = numbers_of(dataset, "ImagePositionPatient", count=3)
    row_x, row_y, row_z, column_x, column_y, column_z = numbers_of(dataset, "ImageOrientationPatient", count=6)
    orientation = (row_x, row_y, row_z, column_x, column_y, column_z)
    if not _is_orthonormal(orientation):
        raise BadFile(f"has the ImageOrientationPatient {list(orientation)}, which is not orthonormal")
    return Geometry(
        rows=integer_of(dataset, "Rows"),
        columns=integer_of(dataset, "Columns"),
        spacing_mm=(spacing_y, spacing_x),
        orientation=orientation,
        position_mm=(x, y, z),
    )


def _is_orthonormal(orientation: tuple[float, ...]) -> bool:
    row, column = orientation[:3], orientation[3:]
    products = (_dot(row, row) - 1, _dot(column, column) - 1, _dot(row, column))
    return max(map(abs, products)) <= ORTHONORMAL_TOLERANCE


def _dot(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _pixel_format(dataset: Dataset, transfer_syntax: UID) -> PixelFormat:
    bits_stored, high_bit = integer_of(dataset, "BitsStored"), integer_of(dataset, "HighBit")
    if not (1 <= bits_stored <= 16 and high_bit == bits_stored - 1):
        raise BadFile(f"has BitsStored {bits_stored} with HighBit {high_bit}")
    representation, slope = integer_of(dataset, "PixelRepresentation"), number_of(dataset, "RescaleSlope")
    if representation not in (0, 1):
        raise BadFile(f"has PixelRepresentation {representation} where 0 or 1 belongs")
    if not SMALLEST_SLOPE <= abs(slope) <= LARGEST_SLOPE:
        raise BadFile(f"has RescaleSlope {slope:g}")
    intercept_hu = number_of(dataset, "RescaleIntercept")
    if abs(intercept_hu) > LARGEST_INTERCEPT_HU:
        raise BadFile(f"has RescaleIntercept {intercept_hu:g}")
    return PixelFormat(
        transfer_syntax=transfer_syntax,
        bits_stored=bits_stored,
        signed=representation == 1,
        slope=slope,
        intercept_hu=intercept_hu,
        padding=_padding(dataset, signed=representation == 1),
    )


def _padding(dataset: Dataset, *, signed: bool) -> tuple[int, int] | None:
    """Range of PixelPaddingValue and PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2), in the pixels' own signedness."""
    value, limit = (optional_integer_of(dataset, f"PixelPadding{part}") for part in ("Value", "RangeLimit"))
    if value is None:
        return None
    ends = [_as_stored(value, signed=signed), _as_stored(value if limit is None else limit, signed=signed)]
    return min(ends), max(ends)


def _as_stored(value: int, *, signed: bool) -> int:
    """Scanners write −2000 of signed pixels as the unsigned 63536."""
    if not -0x8000 <= value <= 0xFFFF:
        raise BadFile(f"has {value} for padding, which no pixel of 16 bits can be")
    number = value & 0xFFFF
    return number - 0x10000 if signed and number >= 0x8000 else number
