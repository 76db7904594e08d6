"""Terms of features: IBSI's codes as PS3.16 has them, and ours."""

import pytest
from pydicom.sr.codedict import codes

from ltdiff.dicom.coded_terms import _AGGREGATIONS, _BEYOND_PS3_16, UNITS, feature_term, method_term, private_term

IN_STANDARD = {getattr(codes.IBSI, keyword).value for keyword in codes.IBSI.dir()}


def test_a_feature_has_the_code_of_the_standard():
    assert feature_term("cm_joint_max_3D_comb", "GYBY") == codes.IBSI.JointMaximumOfGLCM
    assert feature_term("cm_joint_max_3D_comb", "GYBY").meaning == "Joint Maximum of GLCM"
    assert method_term("ITBB").scheme_designator == "IBSI"


def test_what_the_standard_lists_is_not_listed_again():
    assert not IN_STANDARD & {*_BEYOND_PS3_16, *_AGGREGATIONS}
    with pytest.raises(KeyError):
        feature_term("x", "XXXX")


def test_terms_fit_their_elements():
    """PS3.5 6.2: 16 characters of a CodeValue, 64 of a CodeMeaning."""
    terms = [feature_term("", ibsi) for ibsi in (*IN_STANDARD, *_BEYOND_PS3_16)]
    terms += [*map(method_term, _AGGREGATIONS), *UNITS.values(), private_term("GLCM3D_z+1y0x0_4_InformationMeasureCorr1")]
    assert all(len(term.value) <= 16 and 0 < len(term.meaning) <= 64 for term in terms)


def test_a_column_is_a_term_of_its_own():
    assert feature_term("GOH_Range", "")[:3] == ("GOH_Range", "99LTDIFF", "GOH_Range")
    long = private_term("GLCM3D_sum_1_SumVariance")
    assert long.meaning == "GLCM3D_sum_1_SumVariance"
    assert long.value == "404d7f07acc10dd3"
    assert long.value != private_term("GLCM3D_sum_4_SumVariance").value
