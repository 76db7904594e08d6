"""What a derived CT slice says about itself: PS3.3 C.7.6.1.1.3 (derived images)."""

import re
from collections.abc import Hashable
from datetime import datetime
from functools import cache

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import HTJ2K, JPEG2000, CTImageStorage, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import DSfloat

import ltdiff
from ltdiff.dicom.copied_elements import CONTEXT, ElementCopier, Elements, copy_keyword, stored_bytes
from ltdiff.dicom.derivation import Derivation, ascii_text
from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.elements import integer_of, texts_of
from ltdiff.dicom.header import Header
from ltdiff.dicom.write_dataset import MAX_IS, code_item, stable_uid

SERIES_NUMBER_OFFSET = 9000
"""Added to the source's SeriesNumber: derived series sort behind the scanner's own."""
KERNEL_MARK = "ltdiff derived"
"""Second value of ConvolutionKernel, so that nobody takes it for the scanner's kernel."""

_MAX_SH, _MAX_LO = 16, 64
"""Characters that PS3.5 6.2 allows."""
# Type 2 elements of a CT Image (PS3.3 A.3), and one of type 2C: present in every one, if only empty.
# fmt: off
_ALWAYS_PRESENT = [
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "Manufacturer", "PositionReferenceIndicator", "SliceThickness", "KVP",
    "AcquisitionNumber", "PatientPosition",
]
# Fourth value of ImageType: what a multi-energy image shows (PS3.3 C.8.2.1.1.1).
_ENERGY_TYPES = {
    "VMI", "MAT_SPECIFIC", "MAT_REMOVED", "MAT_FRACTIONAL", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MAT_MODIFIED",
    "MAT_VALUE_BASED",
}
# On which of the source's elements those hang that slices of a derived series share.
_SHARED_INPUTS = [
    *CONTEXT, "SeriesNumber", "TimezoneOffsetFromUTC", "ImageType", "RescaleType", "BurnedInAnnotation", "SyntheticData",
    "ContributingEquipmentSequence",
]
# fmt: on
_UTC_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4])[0-5][0-9]")

# Lossy transfer syntaxes and the name that LossyImageCompressionMethod has for them (PS3.3 C.7.6.1.1.5).
_ALWAYS_LOSSY = {JPEGBaseline8Bit: "ISO_10918_1", JPEGExtended12Bit: "ISO_10918_1"}
_OFTEN_LOSSY = {JPEGLSNearLossless: "ISO_14495_1", JPEG2000: "ISO_15444_1", HTJ2K: "ISO_15444_15"}


class DerivedHeaders:
    """Headers of the slices of one derived series.

    What two slices share that follow each other is made once, and is one object in both, which must not be changed.
    """

    def __init__(self, derivation: Derivation, *, series_uid: str, sharper: bool, made: datetime) -> None:
        """`sharper` tells whether the target kernel is, `made` when the series was (local time where it names no zone)."""
        self.derivation = derivation
        self.series_uid = series_uid
        self.sharper = sharper
        self.made = made.astimezone()
        self._copier = ElementCopier()
        self._inputs: list[Hashable] = []
        self._shared: Elements = {}

    def describe(self, dataset: Dataset, source: Header) -> Dataset:
        """All of a derived slice but the pixels and their format, from the source's `dataset`, as derived_attributes has it.

        Elements are handed over, not copied: `dataset` is used up.
        """
        inputs = [source.frame_of_reference_uid, *(stored_bytes(dataset, keyword) for keyword in _SHARED_INPUTS)]
        if inputs != self._inputs:
            shared = self._describe_series(dataset, source)
            self._inputs, self._shared = inputs, {element.tag: element for element in shared}
        derived = Dataset(self._shared | self._copier.copy_kept(dataset))
        _set_place(derived, source)
        derived.SOPInstanceUID = stable_uid(self.series_uid, source.sop_instance_uid)
        derived.SourceImageSequence = [_source_item(source)]
        _set_lossy_compression(derived, dataset, source)
        return derived

    def _describe_series(self, dataset: Dataset, source: Header) -> Dataset:
        """What all slices have that are alike in _SHARED_INPUTS."""
        derived, derivation = Dataset(), self.derivation
        for keyword in _ALWAYS_PRESENT:
            setattr(derived, keyword, None)
        derived.Modality = "CT"
        derived.SeriesInstanceUID = self.series_uid
        derived.SeriesNumber = _series_number(dataset)
        description = f"ltdiff {derivation.source_kernel} to {derivation.target_kernel} (derived)"
        derived.SeriesDescription = ascii_text(description)[:_MAX_LO]
        derived.FrameOfReferenceUID = source.frame_of_reference_uid or stable_uid(self.series_uid, "frame of reference")
        _set_times(derived, dataset, self.made)
        _set_image(derived, dataset, derivation=derivation, sharper=self.sharper)
        equipment = [] if (own := copy_keyword(dataset, "ContributingEquipmentSequence")) is None else own.value
        derived.ContributingEquipmentSequence = [*equipment, _equipment_item(derivation, self.made)]
        return derived


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


def _set_image(derived: Dataset, dataset: Dataset, *, derivation: Derivation, sharper: bool) -> None:
    derived.SOPClassUID = CTImageStorage
    energy = [value for value in _readable(dataset, "ImageType")[3:4] if value in _ENERGY_TYPES]
    derived.ImageType = ["DERIVED", "SECONDARY", "AXIAL", *energy]
    derived.DerivationDescription = derivation.description
    derived.DerivationCodeSequence = [code_item(codes.DCM.EdgeEnhancement if sharper else codes.DCM.Smoothing)]
    kernels = [ascii_text(kernel)[:_MAX_SH] for kernel in derivation.target_kernel.split("\\") if kernel]
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
            if (element := copy_keyword(dataset, keyword)) is not None:
                derived.add(element)
    elif method:
        num_bytes = 2 * source.geometry.rows * source.geometry.columns
        derived.LossyImageCompression = "01"
        derived.LossyImageCompressionMethod = method
        derived.LossyImageCompressionRatio = f"{num_bytes / source.path.stat().st_size:.2f}"
    elif said == ["00"]:
        derived.LossyImageCompression = "00"


def _source_item(source: Header) -> Dataset:
    item = Dataset(_purpose_of_source())
    item.ReferencedSOPInstanceUID = source.sop_instance_uid
    return item


@cache
def _purpose_of_source() -> Elements:
    """What a reference to the source says, whichever slice it is: the same objects for all."""
    item = Dataset()
    item.ReferencedSOPClassUID = CTImageStorage
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    item.SpatialLocationsPreserved = "YES"
    return {element.tag: element for element in item}


def _equipment_item(derivation: Derivation, made: datetime) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    item.Manufacturer = "ltdiff"
    item.ManufacturerModelName = ascii_text(derivation.model_name)[:_MAX_LO]
    item.SoftwareVersions = [ltdiff.__version__, ascii_text(derivation.model_version)[:_MAX_LO]]
    item.ContributionDateTime = made.strftime("%Y%m%d%H%M%S%z")
    item.ContributionDescription = "Kernel standardization, not for diagnostic use"
    return item
