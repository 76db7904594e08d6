"""Where each manufacturer names an iterative or learned reconstruction."""

import pydicom
import pytest
from dicom_files import edit

from ltdiff.dicom.header import read_header


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Manufacturer": "SIEMENS", "ConvolutionKernel": ["Br40d", "3"]}, "ADMIRE 3"),
        ({"Manufacturer": "SIEMENS", "ConvolutionKernel": ["I26f", "3"]}, "SAFIRE 3"),
        ({"Manufacturer": "SIEMENS", "ConvolutionKernel": "I26f"}, "SAFIRE"),
        ({"Manufacturer": "SIEMENS", "ConvolutionKernel": "B30f"}, ""),
        ({"Manufacturer": "SIEMENS", "ConvolutionKernel": ["Bl64", "ltdiff derived"]}, ""),
        (
            {
                "Manufacturer": "Siemens Healthineers",
                "ManufacturerModelName": "NAEOTOM Alpha",
                "ConvolutionKernel": ["Br40f", "3"],
            },
            "QIR 3",
        ),
        ({"Manufacturer": "GE MEDICAL SYSTEMS", "SeriesDescription": "CHEST ASIR 40%"}, "ASiR 40"),
        ({"Manufacturer": "GE MEDICAL SYSTEMS", "SeriesDescription": "LUNG AR50"}, "ASiR-V 50"),
        ({"Manufacturer": "GE MEDICAL SYSTEMS", "SeriesDescription": "5mm SS40 stnd"}, "ASiR 40"),
        ({"Manufacturer": "Philips", "SeriesDescription": "5mm SS40 stnd"}, ""),
        ({"Manufacturer": "Philips", "SeriesDescription": "iDose (4), 1 mm"}, "iDose 4"),
        ({"Manufacturer": "Philips", "SeriesDescription": "CHEST IMR Level 2"}, "IMR 2"),
        ({"Manufacturer": "TOSHIBA", "ImageComments": "AIDR 3D STD, FC08"}, "AIDR 3D STD"),
        ({"Manufacturer": "TOSHIBA", "SeriesDescription": "AIDR3D Body"}, "AIDR 3D"),
        ({"Manufacturer": "Maker", "ReconstructionAlgorithm": "ITERATIVE"}, "iterative"),
        ({"Manufacturer": "Maker", "ReconstructionAlgorithm": "FILTER_BACK_PROJ"}, ""),
        ({"Manufacturer": "Maker", "SeriesDescription": "Admired, Veolia, Passion 3"}, ""),
    ],
)
def test_a_reconstruction_is_named(one_slice, elements, expected):
    assert read_header(edit(one_slice, **elements)).noise_reduction == expected


@pytest.mark.parametrize("syntax", [pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    ("manufacturer", "creator", "group", "element", "vr", "value", "expected"),
    [
        ("GE MEDICAL SYSTEMS", "GEHC_CT_ADVAPP_001", 0x0053, 0x40, "SH", "SS40", "ASiR 40"),
        ("GE MEDICAL SYSTEMS", "GEHC_CT_ADVAPP_001", 0x0053, 0x43, "SH", "ASIR-V 30%", "ASiR-V 30"),
        ("GE MEDICAL SYSTEMS", "GEHC_CT_ADVAPP_001", 0x0053, 0x43, "SH", "40%", "ASiR 40"),
        ("GE MEDICAL SYSTEMS", "SOMEBODY ELSE", 0x0053, 0x40, "SH", "SS40", ""),
        ("Philips", "ELSCINT1", 0x01F7, 0x9B, "IS", "4", "iDose 4"),
        ("Philips", "ELSCINT1", 0x01F7, 0x9B, "IS", "0", ""),
        ("Philips", "SOMEBODY ELSE", 0x01F7, 0x9B, "IS", "4", ""),
    ],
)
def test_private_elements(one_slice, syntax, manufacturer, creator, group, element, vr, value, expected):
    def change(dataset):
        dataset.private_block(group, "ANOTHER", create=True).add_new(element, "LO", "99")
        dataset.private_block(group, creator, create=True).add_new(element, vr, value)
        dataset.Manufacturer = manufacturer
        dataset.file_meta.TransferSyntaxUID = syntax

    assert read_header(edit(one_slice, change)).noise_reduction == expected


def test_nothing_else_of_a_text_is_kept(one_slice):
    edit(one_slice, SeriesDescription="Doe^Jane 1950 ADMIRE 3 Doe", ManufacturerModelName="Force")
    header = read_header(one_slice)
    assert (header.noise_reduction, header.scanner_model) == ("ADMIRE 3", "Force")
    assert "Doe" not in repr(header)


def test_a_long_private_element_says_nothing(one_slice):
    def change(dataset):
        dataset.private_block(0x0053, "GEHC_CT_ADVAPP_001", create=True).add_new(0x40, "UT", "SS40 " * 10_000)
        dataset.Manufacturer = "GE"

    assert read_header(edit(one_slice, change)).noise_reduction == ""
