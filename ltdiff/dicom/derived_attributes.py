"""What becomes of each attribute of the source in a derived slice: the CT Image IOD (PS3.3 A.3), module by module.

What is not in the table is not copied: nobody can say whether it is still true. That holds for private elements, for
overlays and curves (groups 6000 and 5000) and for all that the IOD does not know, but for the groups about the patient.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag

KEPT_GROUPS = {0x0010: "patient", 0x0012: "clinical trial", 0x0032: "request", 0x0038: "visit"}
"""Groups whose attributes tell of no image: those that the table does not name are kept."""


@dataclass(frozen=True)
class Rule:
    """What becomes of some attributes of a module (`keywords`, separated by white space), and why.

    "keep": copied as it is. "recompute": set by the writer, if need be from the old value. "drop": not copied.
    """

    module: str
    decision: Literal["keep", "recompute", "drop"]
    reason: str
    keywords: str


RULES = [
    Rule(
        "Patient",
        "keep",
        "the same patient",
        """
        ReferencedPatientSequence PatientName PatientID IssuerOfPatientID TypeOfPatientID IssuerOfPatientIDQualifiersSequence
        SourcePatientGroupIdentificationSequence GroupOfPatientsIdentificationSequence PatientBirthDate PatientBirthTime
        PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar PatientAlternativeCalendar PatientSex
        QualityControlSubject StrainDescription StrainNomenclature StrainStockSequence StrainAdditionalInformation
        StrainCodeSequence GeneticModificationsSequence OtherPatientNames OtherPatientIDsSequence
        ReferencedPatientPhotoSequence EthnicGroupCodeSequence PatientSpeciesDescription PatientSpeciesCodeSequence
        PatientBreedDescription PatientBreedCodeSequence BreedRegistrationSequence ResponsiblePerson ResponsiblePersonRole
        ResponsibleOrganization PatientComments PatientIdentityRemoved DeidentificationMethod
        DeidentificationMethodCodeSequence
        """,
    ),
    Rule(
        "Clinical Trial Subject, Clinical Trial Study",
        "keep",
        "the same patient at the same visit",
        """
        ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName IssuerOfClinicalTrialProtocolID
        OtherClinicalTrialProtocolIDsSequence ClinicalTrialSiteID ClinicalTrialSiteName IssuerOfClinicalTrialSiteID
        ClinicalTrialSubjectID IssuerOfClinicalTrialSubjectID ClinicalTrialSubjectReadingID
        IssuerOfClinicalTrialSubjectReadingID ClinicalTrialProtocolEthicsCommitteeName
        ClinicalTrialProtocolEthicsCommitteeApprovalNumber ClinicalTrialTimePointID ClinicalTrialTimePointDescription
        LongitudinalTemporalOffsetFromEvent LongitudinalTemporalEventType ClinicalTrialTimePointTypeCodeSequence
        IssuerOfClinicalTrialTimePointID ConsentForClinicalTrialUseSequence
        """,
    ),
    Rule(
        "General Study, Patient Study",
        "keep",
        "the same study",
        """
        StudyDate StudyTime AccessionNumber IssuerOfAccessionNumberSequence ReferringPhysicianName
        ReferringPhysicianIdentificationSequence ConsultingPhysicianName ConsultingPhysicianIdentificationSequence
        StudyDescription ProcedureCodeSequence PhysiciansOfRecord PhysiciansOfRecordIdentificationSequence
        NameOfPhysiciansReadingStudy PhysiciansReadingStudyIdentificationSequence ReferencedStudySequence StudyInstanceUID
        StudyID RequestingService RequestingServiceCodeSequence ReasonForPerformedProcedureCodeSequence
        AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence PatientAge PatientSize PatientSizeCodeSequence
        PatientBodyMassIndex MeasuredAPDimension MeasuredLateralDimension PatientWeight MedicalAlerts Allergies Occupation
        SmokingStatus AdditionalPatientHistory PregnancyStatus LastMenstrualDate PatientSexNeutered ReasonForVisit
        ReasonForVisitCodeSequence AdmissionID IssuerOfAdmissionIDSequence ServiceEpisodeID ServiceEpisodeDescription
        IssuerOfServiceEpisodeIDSequence PatientState
        """,
    ),
    Rule(
        "General Series",
        "keep",
        "how and by whom the patient was scanned",
        """
        PerformingPhysicianName PerformingPhysicianIdentificationSequence OperatorsName OperatorIdentificationSequence
        AnatomicalOrientationType BodyPartExamined ProtocolName PatientPosition Laterality PerformedProtocolCodeSequence
        RequestAttributesSequence TreatmentSessionUID
        """,
    ),
    Rule(
        "General Series",
        "recompute",
        "a new series, made now",
        "SeriesDate SeriesTime Modality SeriesDescription SeriesInstanceUID SeriesNumber",
    ),
    Rule(
        "General Series, Clinical Trial Series",
        "drop",
        "describes the source series, its pixels or the procedure step that made it",
        """
        SeriesDescriptionCodeSequence ReferencedPerformedProcedureStepSequence RelatedSeriesSequence
        SmallestPixelValueInSeries LargestPixelValueInSeries PerformedProcedureStepStartDate PerformedProcedureStepStartTime
        PerformedProcedureStepEndDate PerformedProcedureStepEndTime PerformedProcedureStepID
        PerformedProcedureStepDescription CommentsOnThePerformedProcedureStep ClinicalTrialSeriesID
        ClinicalTrialSeriesDescription IssuerOfClinicalTrialSeriesID
        """,
    ),
    Rule("Clinical Trial Series", "keep", "the same trial", "ClinicalTrialCoordinatingCenterName"),
    Rule("Frame of Reference", "keep", "the same place", "PositionReferenceIndicator"),
    Rule("Frame of Reference", "recompute", "the source's; a new one where it has none", "FrameOfReferenceUID"),
    Rule(
        "Synchronization",
        "keep",
        "how the patient was scanned",
        """
        TriggerSourceOrType SynchronizationTrigger SynchronizationChannel AcquisitionTimeSynchronized TimeSource
        TimeDistributionProtocol NTPSourceAddress SynchronizationFrameOfReferenceUID
        """,
    ),
    Rule(
        "General Equipment",
        "keep",
        "the scanner; ltdiff stands in ContributingEquipmentSequence",
        """
        Manufacturer InstitutionName InstitutionAddress StationName InstitutionalDepartmentName
        InstitutionalDepartmentTypeCodeSequence ManufacturerModelName DeviceSerialNumber DeviceUID GantryID UDISequence
        ManufacturerDeviceClassUID SoftwareVersions DateOfLastCalibration TimeOfLastCalibration DateOfManufacture
        DateOfInstallation
        """,
    ),
    Rule("General Equipment", "drop", "another kernel has another resolution", "SpatialResolution"),
    Rule("General Equipment, Image Pixel", "recompute", "of the new pixels", "PixelPaddingValue PixelPaddingRangeLimit"),
    Rule(
        "General Acquisition",
        "keep",
        "the same acquisition",
        """
        AcquisitionUID AcquisitionDate AcquisitionDateTime AcquisitionTime IrradiationEventUID AcquisitionDuration
        AcquisitionNumber ImagesInAcquisition
        """,
    ),
    Rule(
        "General Image",
        "keep",
        "shows the same",
        """
        AnatomicRegionSequence PrimaryAnatomicStructureSequence PatientOrientation ImageLaterality QualityControlImage
        RecognizableVisualFeatures
        """,
    ),
    Rule("General Image", "recompute", "derived, made now", "ImageType ContentDate ContentTime"),
    Rule("General Image, SOP Common", "recompute", "the source's; counted where it has none", "InstanceNumber"),
    Rule("General Image", "recompute", "YES stays: text that was in the pixels still is", "BurnedInAnnotation"),
    Rule(
        "General Image",
        "recompute",
        "what was lost stays lost, though the derived slice is not compressed",
        "LossyImageCompression LossyImageCompressionRatio LossyImageCompressionMethod",
    ),
    Rule(
        "General Image",
        "drop",
        "describes the old pixels",
        "ImageComments RealWorldValueMappingSequence IconImageSequence PresentationLUTShape",
    ),
    Rule(
        "General Reference",
        "keep",
        "as related to the derived slice as to its source",
        "ReferencedImageSequence ReferencedInstanceSequence",
    ),
    Rule(
        "General Reference",
        "recompute",
        "made of the source by ltdiff",
        "DerivationDescription SourceImageSequence DerivationCodeSequence",
    ),
    Rule("General Reference", "drop", "what the source was made of", "SourceInstanceSequence"),
    Rule(
        "Enhanced Patient Orientation",
        "keep",
        "the same patient on the same table",
        "PatientOrientationCodeSequence PatientEquipmentRelationshipCodeSequence",
    ),
    Rule(
        "Image Plane",
        "keep",
        "the same plane",
        "SliceThickness SpacingBetweenSlices ImagePositionPatient ImageOrientationPatient SliceLocation PixelSpacing",
    ),
    Rule(
        "Image Pixel, CT Image",
        "recompute",
        "of the new pixels",
        """
        SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation PixelData
        RescaleIntercept RescaleSlope
        """,
    ),
    Rule(
        "Image Pixel",
        "drop",
        "of the old pixels, of colours or of a compressed stream",
        """
        PlanarConfiguration PixelAspectRatio SmallestImagePixelValue LargestImagePixelValue
        RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor
        RedPaletteColorLookupTableData GreenPaletteColorLookupTableData BluePaletteColorLookupTableData ICCProfile ColorSpace
        PixelDataProviderURL ExtendedOffsetTable ExtendedOffsetTableLengths
        """,
    ),
    Rule(
        "Contrast/Bolus, Device, Specimen",
        "keep",
        "what was in the patient",
        """
        ContrastBolusAgent ContrastBolusAgentSequence ContrastBolusAdministrationRouteSequence ContrastBolusRoute
        ContrastBolusVolume ContrastBolusStartTime ContrastBolusStopTime ContrastBolusTotalDose ContrastFlowRate
        ContrastFlowDuration ContrastBolusIngredient ContrastBolusIngredientConcentration DeviceSequence ContainerIdentifier
        IssuerOfTheContainerIdentifierSequence AlternateContainerIdentifierSequence ContainerTypeCodeSequence
        ContainerDescription ContainerComponentSequence SpecimenDescriptionSequence
        """,
    ),
    Rule(
        "CT Image, Multi-energy CT Image",
        "keep",
        "how the patient was scanned and what was reconstructed",
        """
        ScanOptions KVP DataCollectionDiameter ReconstructionDiameter DistanceSourceToDetector DistanceSourceToPatient
        GantryDetectorTilt TableHeight RotationDirection ExposureTime XRayTubeCurrent Exposure ExposureInuAs
        ImageAndFluoroscopyAreaDoseProduct FilterType GeneratorPower FocalSpots WaterEquivalentDiameter
        WaterEquivalentDiameterCalculationMethodCodeSequence FilterMaterial RevolutionTime SingleCollimationWidth
        TotalCollimationWidth TableSpeed TableFeedPerRotation SpiralPitchFactor DataCollectionCenterPatient
        ReconstructionTargetCenterPatient ExposureModulationType CTDIvol CTDIPhantomTypeCodeSequence EnergyWeightingFactor
        CTAdditionalXRaySourceSequence MultienergyCTAcquisition ViewCodeSequence SliceProgressionDirection
        ScanStartPositionSequence ScanStopPositionSequence ScanArcType DetectorPositioningType IsocenterPosition
        EquipmentFrameOfReferenceUID PatientTreatmentPreparationSequence PatientToEquipmentRelationshipSequence
        ImagingEquipmentToTreatmentDeliveryDeviceRelationshipSequence ReferencedRTPlanSequence
        MultienergyCTAcquisitionSequence MultienergyCTProcessingSequence MultienergyCTCharacteristicsSequence
        """,
    ),
    Rule("CT Image", "recompute", "the target's kernel, marked as ltdiff's", "ConvolutionKernel"),
    Rule("CT Image", "recompute", "the source's; HU where it has none, as PS3.3 C.11.1.1.2 has it", "RescaleType"),
    Rule(
        "CT Image",
        "drop",
        "calibrates a score for the kernel of the source",
        "CalciumScoringMassFactorPatient CalciumScoringMassFactorDevice",
    ),
    Rule(
        "Overlay Plane",
        "drop",
        "was drawn or measured on the old pixels",
        """
        OverlayRows OverlayColumns OverlayDescription OverlayType OverlaySubtype OverlayOrigin OverlayBitsAllocated
        OverlayBitPosition ROIArea ROIMean ROIStandardDeviation OverlayLabel OverlayData
        """,
    ),
    Rule(
        "VOI LUT",
        "drop",
        "was chosen for the kernel and the stored values of the source",
        "WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTFunction VOILUTSequence",
    ),
    Rule(
        "SOP Common",
        "keep",
        "needed to read what is kept",
        """
        SpecificCharacterSet CodingSchemeIdentificationSequence ContextGroupIdentificationSequence
        MappingResourceIdentificationSequence LongitudinalTemporalInformationModified BarcodeValue
        ReferencedDefinedProtocolSequence ReferencedPerformedProtocolSequence
        """,
    ),
    Rule(
        "SOP Common",
        "recompute",
        "a new instance, made now",
        "SOPClassUID SOPInstanceUID InstanceCreationDate InstanceCreationTime",
    ),
    Rule("SOP Common", "recompute", "new times are written in the zone of those kept", "TimezoneOffsetFromUTC"),
    Rule("SOP Common", "recompute", "the source's items, then ltdiff", "ContributingEquipmentSequence"),
    Rule("SOP Common", "recompute", "RESEARCH: not for diagnostic use", "ContentQualification"),
    Rule("SOP Common", "recompute", "YES stays; of a network's image nobody can say NO", "SyntheticData"),
    Rule(
        "SOP Common, Common Instance Reference",
        "drop",
        "of the old instance: its makers, copies, status, signatures and references",
        """
        InstanceCreatorUID InstanceCoercionDateTime RelatedGeneralSOPClassUID OriginalSpecializedSOPClassUID
        QueryRetrieveView PrivateDataElementCharacteristicsSequence ConversionSourceAttributesSequence
        HL7StructuredDocumentReferenceSequence SOPInstanceStatus SOPAuthorizationDateTime SOPAuthorizationComment
        AuthorizationEquipmentCertificationNumber EncryptedAttributesSequence OriginalAttributesSequence
        InstanceOriginStatus MACParametersSequence DigitalSignaturesSequence ReferencedSeriesSequence
        StudiesContainingOtherReferencedInstancesSequence
        """,
    ),
    Rule(
        "none (other attributes that CT scanners write)",
        "keep",
        "when in the cycle of heart or breath, and how, the patient was scanned",
        """
        TriggerTime NominalInterval BeatRejectionFlag LowRRValue HighRRValue IntervalsAcquired IntervalsRejected HeartRate
        CardiacSynchronizationTechnique CardiacSignalSource RespiratoryMotionCompensationTechnique RespiratorySignalSource
        TemporalPositionIdentifier NumberOfTemporalPositions TemporalResolution TemporalPositionIndex
        TemporalPositionTimeOffset NominalCardiacTriggerDelayTime ActualCardiacTriggerDelayTime
        NominalPercentageOfCardiacPhase NominalPercentageOfRespiratoryPhase AcquisitionType AcquisitionContextSequence
        PatientGantryRelationshipCodeSequence
        """,
    ),
]

_DECISIONS = {keyword: rule.decision for rule in RULES for keyword in rule.keywords.split()}


@lru_cache(maxsize=4096)
def is_kept(tag: BaseTag) -> bool:
    """Whether the derived slice has the attribute of its source as it is."""
    if tag.is_private or not tag.element:  # the latter is a length of a group
        return False
    return _DECISIONS.get(keyword_for_tag(tag), "keep" if tag.group in KEPT_GROUPS else "drop") == "keep"
