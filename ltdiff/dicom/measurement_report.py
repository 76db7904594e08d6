"""Writing features of regions as a Measurement Report (PS3.16 TID 1500) in a Comprehensive 3D SR (PS3.3 A.35.13)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat

import ltdiff
from ltdiff.dicom.coded_terms import PRIVATE, UNITS, feature_term, method_term, private_term
from ltdiff.dicom.dicom_file import without_warnings
from ltdiff.dicom.segmentation_reference import SegmentationReference
from ltdiff.dicom.series import Series
from ltdiff.dicom.study_context import EQUIPMENT, reference_images, save_with_study
from ltdiff.dicom.write_dataset import code_item, stable_uid

SERIES_NUMBER = 901
SIZES = {"num_voxels": (private_term("num_voxels"), UNITS["voxels"]), "volume_mm3": (codes.SCT.Volume, UNITS["mm3"])}
"""Column → name and unit, of what is reported beside the features."""

FeatureCode = tuple[str, str, str]
"""IBSI id, "" where there is none; IBSI id of the aggregation or a column (`method_term`), "" where the name says all; unit."""


@dataclass(frozen=True)
class Algorithm:
    """What measured the features, and with which settings: sentences."""

    name: str
    version: str
    parameters: tuple[str, ...]


def write_measurement_report(
    series: Series,
    rows: Mapping[int, Mapping[str, float]],
    *,
    feature_codes: Mapping[str, FeatureCode],
    segmentation: SegmentationReference,
    algorithm: Algorithm,
    folder: Path,
) -> Path:
    """Write SR.<its UID>.dcm in `folder`, with a measurement group for each region, and return its path.

    `rows` has for each region, by the number of its segment, the values by column: `SIZES` and features. The UID is that of the
    values: the same again have the same.

    Raises:
        ValueError: see `save_with_study`.
    """
    series_uid = stable_uid(
        "measurement report", series.series_instance_uid, segmentation.instance.SOPInstanceUID, str(algorithm), str(rows)
    )
    path = folder / f"SR.{stable_uid(series_uid, 'instance')}.dcm"
    with without_warnings():
        groups = [_group(number, segmentation, algorithm) for number in rows]
        report = hd.sr.MeasurementReport(
            observation_context=_observer(), procedure_reported=codes.LN.CTUnspecifiedBodyRegion, imaging_measurements=groups
        )
        document = hd.sr.Comprehensive3DSR(
            evidence=[*reference_images(series), segmentation.instance],
            content=report,
            series_instance_uid=series_uid,
            series_number=SERIES_NUMBER,
            sop_instance_uid=stable_uid(series_uid, "instance"),
            instance_number=1,
            **EQUIPMENT,
            is_complete=True,
            series_description="Radiomic features",
            coding_schemes=[CodingSchemeIdentificationItem(PRIVATE, name="columns of the feature tables of ltdiff")],
        )
        _add_measurements(document, rows.values(), _terms(feature_codes))
    save_with_study(document, series, path)
    return path


def _group(
    number: int, segmentation: SegmentationReference, algorithm: Algorithm
) -> hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations:
    """What a region is and how it was measured (TID 1411)."""
    tracking_id, tracking_uid = segmentation.tracking[number]
    return hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=tracking_uid, identifier=tracking_id),
        referenced_segment=segmentation.segment(number),
        algorithm_id=hd.sr.AlgorithmIdentification(algorithm.name, algorithm.version, parameters=algorithm.parameters),
        finding_sites=[hd.sr.FindingSite(site) for site in segmentation.sites[number]] or None,
    )


_Term = tuple[Code, Code | None, Code]
"""Name, method, unit."""


def _terms(feature_codes: Mapping[str, FeatureCode]) -> dict[str, _Term]:
    return {column: (name, None, unit) for column, (name, unit) in SIZES.items()} | {
        column: (feature_term(column, ibsi), method_term(method) if method else None, UNITS[unit])
        for column, (ibsi, method, unit) in feature_codes.items()
    }


def _add_measurements(document: Dataset, rows: Iterable[Mapping[str, float]], terms: Mapping[str, _Term]) -> None:
    """Add the values of each region to its group. highdicom copies an item several times: thousands take it minutes."""
    (measurements,) = [item for item in document.ContentSequence if item.ValueType == "CONTAINER"]
    for group, values in zip(measurements.ContentSequence, rows, strict=True):
        items = [_measurement(value, *terms[column]) for column, value in values.items()]
        group.add_new("ContentSequence", "SQ", [*group.ContentSequence, *items])


def _measurement(value: float, name: Code, method: Code | None, unit: Code) -> Dataset:
    """A measurement (TID 300)."""
    measured = Dataset()
    measured.NumericValue = DSfloat(value, auto_format=True)
    measured.FloatingPointValue = value
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item = Dataset()
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", "NUM", [code_item(name)]
    item.MeasuredValueSequence = [measured]
    if method is not None:
        modifier = Dataset()
        modifier.RelationshipType, modifier.ValueType = "HAS CONCEPT MOD", "CODE"
        modifier.ConceptNameCodeSequence = [code_item(codes.SCT.MeasurementMethod)]
        modifier.ConceptCodeSequence = [code_item(method)]
        item.ContentSequence = [modifier]
    return item


def _observer() -> hd.sr.ObservationContext:
    """The program, not a person (TID 1004)."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=stable_uid("ltdiff", "observer"), name="ltdiff", manufacturer_name="ltdiff", model_name=ltdiff.__version__
    )
    context = hd.sr.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    return hd.sr.ObservationContext(observer_device_context=context)
