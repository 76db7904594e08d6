"""What a derived CT slice says about itself: PS3.3 C.7.6.1.1.3 (derived images)."""

import re
from dataclasses import dataclass
from datetime import datetime

from pydicom import DataElement, Dataset, config
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag, Tag
from pydicom.uid import HTJ2K, JPEG2000, CTImageStorage, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, STR_VR, DSfloat, PersonName, validate_value

import ltdiff
from ltdiff.dicom.derived_attributes import is_kept
from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.elements import integer_of, texts_of
from ltdiff.dicom.file_layout import MAX_DEPTH
from ltdiff.dicom.header import LTDIFF_DERIVATION, Header
from ltdiff.dicom.write_dataset import MAX_IS, code_item, stable_uid

SERIES_NUMBER_OFFSET = 9000
"""Added to the source's SeriesNumber: derived series sort behind the scanner's own."""
MAX_OUT_OF_DOMAIN_CHARACTERS = 400
"""A DerivationDescription has 1024, and the weights must still fit behind the warning."""
KERNEL_MARK = "ltdiff derived"
"""Second value of ConvolutionKernel, so that nobody takes it for the scanner's kernel."""

CharacterSet = str | list[str] | None
"""SpecificCharacterSet."""

# The lengths that PS3.5 6.2 allows.
_MAX_SH, _MAX_LO, _MAX_ST = 16, 64, 1024

_CODED_VR = {"AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"}
"""Types whose texts have few characters."""

# Type 2 elements of a CT Image (PS3.3 A.3), and one of type 2C: present in every one, if only empty.
# fmt: off
_ALWAYS_PRESENT = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "Manufacturer", "PositionReferenceIndicator", "SliceThickness", "KVP",
    "AcquisitionNumber", "PatientPosition",
]
# Not copied inside of sequences: what is no longer true of a changed item, and "", the private and the unknown.
_DROPPED_INSIDE = {"MACParametersSequence", "DigitalSignaturesSequence", "EncryptedAttributesSequence", ""}
# Fourth value of ImageType: what a multi-energy image shows (PS3.3 C.8.2.1.1.1).
_ENERGY_TYPES = {
    "VMI", "MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MAT_MODIFIED",
    "MAT_VALUE_BASED",
}
# fmt: on
_UTC_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]")

# Lossy transfer syntaxes and the name that LossyImageCompressionMethod has for them (PS3.3 C.7.6.1.1.5).
_ALWAYS_LOSSY = {JPEGBaseline8Bit: "ISO_10918_1", JPEGExtended12Bit: "ISO_10918_1"}
_OFTEN_LOSSY = {JPEGLSNearLossless: "ISO_14495_1", JPEG2000: "ISO_15444_1", HTJ2K: "ISO_15444_15"}


@dataclass(frozen=True)
class Derivation:
    """How a derived series was made: what an identical one would need, with the same source.

    `out_of_domain` says what of the source lies outside what the model was trained for; "" where nothing does. `source_sha256`
    stands for the bytes of the source's files.
    """

    model_name: str
    model_version: str
    weights_sha256: str
    process: str
    decode: str
    num_inference_steps: int
    seed: int
    source_kernel: str
    target_kernel: str
    out_of_domain: str = ""
    source_sha256: str = ""

    @property
    def warning(self) -> str:
        """The warning that a series bears whose source the model was not trained for; "" for all others."""
        return f"outside what the model was trained for: {self.out_of_domain}" if self.out_of_domain else ""

    @property
    def description(self) -> str:
        """One sentence for DerivationDescription (ST, at most 1024 characters)."""
        warnings = "; ".join(filter(None, ["not for diagnostic use", self.warning[:MAX_OUT_OF_DOMAIN_CHARACTERS]]))
        text = (  # the warnings first: a header may hold kernel names of any length
            f"{LTDIFF_DERIVATION} {ltdiff.__version__}, {warnings}. From kernel {self.source_kernel or 'unknown'} to kernel "
            f"{self.target_kernel or 'unknown'}: model {self.model_name} {self.model_version}, "
            f"weights sha256 {self.weights_sha256}, process {self.process}, decode {self.decode}, "
            f"{self.num_inference_steps} steps, seed {self.seed}"
        )
        return _ascii(text)[:_MAX_ST]


def describe_derived(
    dataset: Dataset, *, source: Header, derivation: Derivation, series_uid: str, sharper: bool, made: datetime
) -> Dataset:
    """All of a derived slice but the pixels and their format, from the source's `dataset`, as derived_attributes has it.

    Elements are handed over, not copied: `dataset` is used up. `sharper` tells whether the target kernel is, `made` when the
    series was made (the same for all its slices; local time where it names no zone).
    """
    made = made.astimezone()
    derived = Dataset()
    for tag in sorted(dataset.keys()):
        if is_kept(tag) and (element := _copied(dataset, tag)) is not None:
            derived[tag] = element
    for keyword in _ALWAYS_PRESENT:
        if keyword not in derived:
            setattr(derived, keyword, None)
    _set_place(derived, source)
    _set_series(derived, dataset, source=source, derivation=derivation, series_uid=series_uid)
    _set_times(derived, dataset, made)
    _set_image(derived, dataset, source=source, derivation=derivation, sharper=sharper)
    _set_lossy_compression(derived, dataset, source)
    equipment = [] if (own := _copied_keyword(dataset, "ContributingEquipmentSequence")) is None else own.value
    derived.ContributingEquipmentSequence = [*equipment, _equipment_item(derivation, made)]
    return derived


def _copied_keyword(dataset: Dataset, keyword: str) -> DataElement | None:
    return _copied(dataset, Tag(keyword)) if keyword in dataset else None


def _copied(dataset: Dataset, tag: BaseTag) -> DataElement | None:
    """The element without what may not be in it; None where it cannot be read or written."""
    try:
        return _cleaned(dataset, tag, dataset.get("SpecificCharacterSet"), depth=0)
    except Exception:  # whatever pydicom raises for a broken value
        return None


def _cleaned(dataset: Dataset, tag: BaseTag, encoding: CharacterSet, *, depth: int) -> DataElement | None:
    """The element in its own type, without private elements and signatures in its items; None where that cannot be."""
    stored, element = dataset.get_item(tag), dataset[tag]
    vr = dictionary_VR(tag) if keyword_for_tag(tag) else element.VR
    if vr != element.VR and " or " not in vr:
        if not ({element.VR, vr} <= STR_VR and _is_legal(element.value, vr)):
            return None
        element = DataElement(tag, vr, element.value)  # a text of another type
    elif vr == "SQ":
        return _cleaned_sequence(element, encoding, depth=depth)
    elif vr in CUSTOMIZABLE_CHARSET_VR and isinstance(stored, RawDataElement) and stored.value:
        element = DataElement(tag, vr, _encoded_text(stored.value, vr, encoding))
    elif vr in _CODED_VR and not str(element.value).isprintable():
        return None  # bytes of something else: padded as a text, they would be wrong in another way
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element, encoding)  # tried alone: an error inside of sequences has no end
    return element


def _is_legal(value: object, vr: str) -> bool:
    """Whether a text, or each of several, can be a value of this type."""
    texts = [str(one) for one in value] if isinstance(value, MultiValue) else [str(value)]
    try:
        for text in texts:
            validate_value(vr, text, config.RAISE)
    except ValueError:
        return False
    return all(text.isprintable() for text in texts)


def _encoded_text(value: bytes, vr: str, encoding: CharacterSet) -> bytes | list[PersonName]:
    """The text as it stands in the file: decoded, bytes that are not of its character set would be lost."""
    if vr != "PN":
        return value
    return [PersonName(name, convert_encodings(encoding)) for name in value.split(b"\\")]


def _cleaned_sequence(element: DataElement, encoding: CharacterSet, *, depth: int) -> DataElement | None:
    if depth == MAX_DEPTH:  # pydicom's sentence on what cannot be written doubles with each
        raise ValueError(f"more than {MAX_DEPTH} sequences in each other")
    for item in element.value:
        for tag in list(item.keys()):
            inner = None
            if keyword_for_tag(tag) not in _DROPPED_INSIDE:
                inner = _cleaned(item, tag, item.get("SpecificCharacterSet", encoding), depth=depth + 1)
            if inner is None:
                del item[tag]
            else:
                item[tag] = inner
    # An anonymizer may have left half a reference, and what is no item is read as an empty one: both are invalid.
    broken = any(
        not len(item) or ("ReferencedSOPClassUID" in item) ^ ("ReferencedSOPInstanceUID" in item) for item in element.value
    )
    return None if broken else element


def _set_place(derived: Dataset, source: Header) -> None:
    """The place as it was read, where the source has it in another type than DICOM's, so that it was not copied."""
    geometry = source.geometry
    for keyword, values in (
        ("PixelSpacing", geometry.spacing_mm),
        ("ImagePositionPatient", geometry.position_mm),
        ("ImageOrientationPatient", geometry.orientation),
    ):
        if keyword not in derived:
            setattr(derived, keyword, [DSfloat(value, auto_format=True) for value in values])


def _readable(dataset: Dataset, keyword: str) -> list[str]:
    """The values as text; [] where there is none, or none that can be read."""
    try:
        return texts_of(dataset, keyword)
    except BadFile:
        return []


def _set_series(derived: Dataset, dataset: Dataset, *, source: Header, derivation: Derivation, series_uid: str) -> None:
    derived.Modality = "CT"
    derived.SeriesInstanceUID = series_uid
    derived.SeriesNumber = _series_number(dataset)
    derived.SeriesDescription = _ascii(f"ltdiff {derivation.source_kernel} to {derivation.target_kernel} (derived)")[:_MAX_LO]
    derived.FrameOfReferenceUID = source.frame_of_reference_uid or stable_uid(series_uid, "frame of reference")


def _series_number(dataset: Dataset) -> int:
    """SERIES_NUMBER_OFFSET behind the source's; the offset alone where that is none, or no longer a number for an IS."""
    try:
        number = integer_of(dataset, "SeriesNumber") + SERIES_NUMBER_OFFSET
    except BadFile:
        return SERIES_NUMBER_OFFSET
    return number if abs(number) <= MAX_IS else SERIES_NUMBER_OFFSET


def _set_times(derived: Dataset, dataset: Dataset, made: datetime) -> None:
    """Times of the new series in the time zone of those that are kept: TimezoneOffsetFromUTC is that of all of them."""
    offset = "\\".join(_readable(dataset, "TimezoneOffsetFromUTC"))
    if _UTC_OFFSET.fullmatch(offset):
        derived.TimezoneOffsetFromUTC = offset
        made = made.astimezone(datetime.strptime(offset, "%z").tzinfo)
    derived.SeriesDate = derived.ContentDate = derived.InstanceCreationDate = made.strftime("%Y%m%d")
    derived.SeriesTime = derived.ContentTime = derived.InstanceCreationTime = made.strftime("%H%M%S")


def _set_image(derived: Dataset, dataset: Dataset, *, source: Header, derivation: Derivation, sharper: bool) -> None:
    derived.SOPClassUID = CTImageStorage
    derived.SOPInstanceUID = stable_uid(derived.SeriesInstanceUID, source.sop_instance_uid)
    energy = [value for value in _readable(dataset, "ImageType")[3:4] if value in _ENERGY_TYPES]
    derived.ImageType = ["DERIVED", "SECONDARY", "AXIAL", *energy]
    derived.DerivationDescription = derivation.description
    derived.DerivationCodeSequence = [code_item(codes.DCM.EdgeEnhancement if sharper else codes.DCM.Smoothing)]
    derived.SourceImageSequence = [_source_item(source)]
    kernels = [_ascii(kernel)[:_MAX_SH] for kernel in derivation.target_kernel.split("\\") if kernel]
    derived.ConvolutionKernel = [*kernels, KERNEL_MARK]
    derived.RescaleType = "\\".join(_readable(dataset, "RescaleType")) or "HU"
    derived.BurnedInAnnotation = "YES" if _readable(dataset, "BurnedInAnnotation") == ["YES"] else "NO"
    derived.ContentQualification = "RESEARCH"
    if _readable(dataset, "SyntheticData") == ["YES"]:
        derived.SyntheticData = "YES"


def _set_lossy_compression(derived: Dataset, dataset: Dataset, source: Header) -> None:
    """What was lost stays lost and said so, though the derived slice itself is not compressed."""
    said = _readable(dataset, "LossyImageCompression")
    syntax = source.pixel_format.transfer_syntax
    method = _ALWAYS_LOSSY.get(syntax) or (None if said == ["00"] else _OFTEN_LOSSY.get(syntax))
    if said == ["01"]:
        for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
            if (element := _copied_keyword(dataset, keyword)) is not None:
                derived.add(element)
    elif method:
        num_bytes = 2 * source.geometry.rows * source.geometry.columns
        derived.LossyImageCompression = "01"
        derived.LossyImageCompressionMethod = method
        derived.LossyImageCompressionRatio = f"{num_bytes / source.path.stat().st_size:.2f}"
    elif said == ["00"]:
        derived.LossyImageCompression = "00"


def _source_item(source: Header) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    item.SpatialLocationsPreserved = "YES"
    return item


def _equipment_item(derivation: Derivation, made: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = "ltdiff"
    item.ManufacturerModelName = _ascii(derivation.model_name)[:_MAX_LO]
    item.SoftwareVersions = [ltdiff.__version__, _ascii(derivation.model_version)[:_MAX_LO]]
    item.ContributionDateTime = made.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = "Kernel standardization, not for diagnostic use"
    return item


def _ascii(text: str) -> str:
    """Text that fits every SpecificCharacterSet, in one value (a backslash would begin another) and on one line."""
    return "".join(character if " " <= character <= "~" else "?" for character in text.replace("\\", " "))
