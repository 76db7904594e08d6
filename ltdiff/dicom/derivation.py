"""What a derived CT slice says about itself: PS3.3 C.7.6.1.1.3 (derived images) and what must not be copied."""

from dataclasses import dataclass
from datetime import datetime

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.sr.codedict import codes
from pydicom.tag import BaseTag
from pydicom.uid import JPEG2000, CTImageStorage, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

import ltdiff
from ltdiff.dicom.header import LTDIFF_DERIVATION, Header
from ltdiff.dicom.write_dataset import code_item, stable_uid

SERIES_NUMBER_OFFSET = 9000
"""Added to the source's SeriesNumber: derived series sort behind the scanner's own."""
MAX_OUT_OF_DOMAIN_CHARACTERS = 400
"""A DerivationDescription has 1024, and the weights must still fit behind the warning."""
KERNEL_MARK = "ltdiff derived"
"""Second value of ConvolutionKernel, so that nobody takes it for the scanner's kernel."""

# Elements that belong to the old pixels, to the old instance, or to the procedure step that made it.
# fmt: off
_DROPPED = {
    "IconImageSequence", "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "SmallestImagePixelValueInPlane", "LargestImagePixelValueInPlane", "WindowCenter",
    "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence", "MACParametersSequence",
    "EncryptedAttributesSequence", "PixelDataProviderURL", "InstanceCreatorUID", "StorageMediaFileSetID",
    "StorageMediaFileSetUID", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "UID",
    "ReferencedPerformedProcedureStepSequence", "PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime",
    "PerformedProcedureStepEndDate", "PerformedProcedureStepEndTime", "PerformedProcedureStepID",
    "PerformedProcedureStepDescription",
}
# fmt: on
# Curves, overlays, pixels, signatures, padding of the file (first and last group).
_DROPPED_GROUPS = [(0x5000, 0x50FF), (0x6000, 0x60FF), (0x7FE0, 0x7FE0), (0xFFFA, 0xFFFC)]

# Type 2 elements of a CT Image (PS3.3 A.3): present in every one, if only empty.
# fmt: off
_ALWAYS_PRESENT = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "Manufacturer", "PositionReferenceIndicator", "SliceThickness", "KVP",
    "AcquisitionNumber",
]
# fmt: on

# Lossy transfer syntaxes and the name that LossyImageCompressionMethod has for them (PS3.3 C.7.6.1.1.5).
_LOSSY_METHODS = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
}


@dataclass(frozen=True)
class Derivation:
    """How a derived series was made: what an identical one would need, with the same source.

    `out_of_domain` says what of the source lies outside what the model was trained for; "" where nothing does.
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
        return _ascii(text)[:1024]


def describe_derived(
    dataset: pydicom.Dataset, *, source: Header, derivation: Derivation, series_uid: str, sharper: bool, made: datetime
) -> None:
    """Turn a copy of the source's dataset without pixels into that of its derived slice, in place.

    `sharper` tells whether the target kernel is, `made` when the series was made (the same for all its slices).
    """
    _drop(dataset)
    _fill(dataset)
    _set_series(dataset, derivation=derivation, series_uid=series_uid, made=made)
    _set_image(dataset, source=source, derivation=derivation, sharper=sharper)
    _set_lossy_compression(dataset, source)


def _drop(dataset: pydicom.Dataset) -> None:
    for tag in list(dataset.keys()):
        in_dropped_group = any(first <= tag.group <= last for first, last in _DROPPED_GROUPS)
        if tag.is_private or in_dropped_group or keyword_for_tag(tag) in _DROPPED or not _cleaned(dataset, tag):
            del dataset[tag]


def _cleaned(dataset: pydicom.Dataset, tag: BaseTag) -> bool:
    """Whether the element can be copied; removes the private elements inside a sequence."""
    try:
        element = dataset[tag]
        items = element.value if element.VR == "SQ" else []
        for item in items:
            item.remove_private_tags()
    except Exception:  # whatever pydicom raises for a broken value: what cannot be read cannot be written either
        return False
    # An anonymizer may have left half a reference, which is invalid.
    return not any(("ReferencedSOPClassUID" in item) ^ ("ReferencedSOPInstanceUID" in item) for item in items)


def _fill(dataset: pydicom.Dataset) -> None:
    for keyword in _ALWAYS_PRESENT:
        if keyword not in dataset:
            setattr(dataset, keyword, None)


def _set_series(dataset: pydicom.Dataset, *, derivation: Derivation, series_uid: str, made: datetime) -> None:
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = series_uid
    dataset.SeriesNumber = int(dataset.get("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET
    dataset.SeriesDescription = _ascii(f"ltdiff {derivation.source_kernel} to {derivation.target_kernel} (derived)")[:64]
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = made.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = made.strftime("%H%M%S")
    if not dataset.get("FrameOfReferenceUID"):
        dataset.FrameOfReferenceUID = stable_uid(series_uid, "frame of reference")
    dataset.ContributingEquipmentSequence = [*dataset.get("ContributingEquipmentSequence", []), _equipment_item(derivation, made)]


def _set_image(dataset: pydicom.Dataset, *, source: Header, derivation: Derivation, sharper: bool) -> None:
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = stable_uid(dataset.SeriesInstanceUID, source.sop_instance_uid)
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.DerivationDescription = derivation.description
    dataset.DerivationCodeSequence = [code_item(codes.DCM.EdgeEnhancement if sharper else codes.DCM.Smoothing)]
    dataset.SourceImageSequence = [_source_item(source)]
    dataset.ConvolutionKernel = [*filter(None, derivation.target_kernel.split("\\")), KERNEL_MARK]
    dataset.RescaleType = "HU"
    if dataset.get("BurnedInAnnotation") != "YES":  # text that was in the pixels still is
        dataset.BurnedInAnnotation = "NO"


def _set_lossy_compression(dataset: pydicom.Dataset, source: Header) -> None:
    """What was lost stays lost and said so, though the derived slice itself is not compressed."""
    method = _LOSSY_METHODS.get(source.pixel_format.transfer_syntax)
    if dataset.get("LossyImageCompression") or not method:
        return
    num_bytes = 2 * source.geometry.rows * source.geometry.columns
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = method
    dataset.LossyImageCompressionRatio = f"{num_bytes / source.path.stat().st_size:.2f}"


def _source_item(source: Header) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    item.SpatialLocationsPreserved = "YES"
    return item


def _equipment_item(derivation: Derivation, made: datetime) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = "ltdiff"
    item.ManufacturerModelName = _ascii(derivation.model_name)[:64]
    item.SoftwareVersions = [ltdiff.__version__, _ascii(derivation.model_version)[:64]]
    item.ContributionDateTime = made.strftime("%Y%m%d%H%M%S")
    item.ContributionDescription = "Kernel standardization, not for diagnostic use"
    return item


def _ascii(text: str) -> str:
    """Text that fits every SpecificCharacterSet, in one value (a backslash would begin another)."""
    return text.encode("ascii", "replace").decode().replace("\\", " ")
