"""Coded terms for features, their aggregation and their units (PS3.3 8.8), as they stand in a measurement report.

IBSI is a coding scheme of DICOM (PS3.16 8); PS3.16 lists its shape, histogram and texture features. Those of intensities are in
IBSI's reference manual alone (arXiv:1612.07003), under codes of the same kind.
"""

import hashlib
from functools import cache

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

IBSI, PRIVATE = "IBSI", "99LTDIFF"
"""Coding schemes; the second's terms are columns of our feature tables."""

_MAX_SH = 16
"""Characters of a CodeValue (PS3.5 6.2)."""

_BEYOND_PS3_16 = {
    "VJGA": "Local Intensity Peak",
    "0F91": "Global Intensity Peak",
    "Q4LE": "Mean Intensity",
    "ECT3": "Intensity Variance",
    "KE2A": "Intensity Skewness",
    "IPH6": "Excess Intensity Kurtosis",
    "Y12H": "Median Intensity",
    "1GSF": "Minimum Intensity",
    "QG58": "10th Intensity Percentile",
    "8DWT": "90th Intensity Percentile",
    "84IY": "Maximum Intensity",
    "SALO": "Intensity Interquartile Range",
    "2OJQ": "Intensity Range",
    "4FUA": "Intensity-based Mean Absolute Deviation",
    "1128": "Intensity-based Robust Mean Absolute Deviation",
    "N72L": "Intensity-based Median Absolute Deviation",
    "7TET": "Intensity-based Coefficient of Variation",
    "9S40": "Intensity-based Quartile Coefficient of Dispersion",
    "N8CA": "Intensity-based Energy",
    "5ZWQ": "Root Mean Square Intensity",
    "BC2M": "Volume at Intensity Fraction",
    "GBPN": "Intensity at Volume Fraction",
    "DDTU": "Volume Fraction Difference between Intensity Fractions",
    "CNV2": "Intensity Fraction Difference between Volume Fractions",
}
_AGGREGATIONS = {
    "BTW3": "2D, averaged over slices and directions",
    "SUJT": "2D, merged in each slice",
    "JJUI": "2.5D, merged over slices for each direction",
    "ZW7Z": "2.5D, merged",
    "ITBB": "3D, averaged over directions",
    "IAZD": "3D, merged",
    "8QNN": "2D, averaged over slices",
    "62GR": "2.5D, merged over slices",
    "KOBO": "3D",
}
UNITS = {
    "1": codes.UCUM.NoUnits,
    "mm": Code("mm", "UCUM", "mm"),
    "mm2": Code("mm2", "UCUM", "mm2"),
    "mm3": Code("mm3", "UCUM", "mm3"),
    "/mm": Code("/mm", "UCUM", "/mm"),
    "HU": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "HU2": Code("[hnsf'U]2", "UCUM", "square Hounsfield unit"),
    "HU.mm3": Code("[hnsf'U].mm3", "UCUM", "Hounsfield unit times mm3"),
    "HU2.mm3": Code("[hnsf'U]2.mm3", "UCUM", "square Hounsfield unit times mm3"),
    "deg": Code("deg", "UCUM", "degree"),
    "voxels": Code("{voxels}", "UCUM", "voxels"),
}
"""Unit → its term in UCUM, the units of DICOM (PS3.16 CID 82)."""


def feature_term(column: str, ibsi: str) -> Code:
    """The name of a feature: its IBSI id, or the column of a table where IBSI has none.

    feature_term("cm_joint_max_3D_comb", "GYBY") is (GYBY, IBSI, "Joint Maximum of GLCM").

    Raises:
        KeyError: an id that neither PS3.16 nor the table above knows.
    """
    return Code(ibsi, IBSI, _BEYOND_PS3_16.get(ibsi) or _meanings()[ibsi]) if ibsi else private_term(column)


def method_term(method: str) -> Code:
    """How a feature was aggregated: the id that IBSI has for it, or the column of a table that alone says it."""
    return Code(method, IBSI, _AGGREGATIONS[method]) if method in _AGGREGATIONS else private_term(method)


def private_term(column: str) -> Code:
    """A column of our tables as a term. The code of a name that is too long for one is 16 hex digits of its sha256.

    LongCodeValue would hold it, but not every reader looks there; highdicom does not.
    """
    return Code(column if len(column) <= _MAX_SH else hashlib.sha256(column.encode()).hexdigest()[:_MAX_SH], PRIVATE, column)


@cache
def _meanings() -> dict[str, str]:
    """Code → meaning of IBSI's features in PS3.16."""
    terms = [getattr(codes.IBSI, keyword) for keyword in codes.IBSI.dir()]
    return {term.value: term.meaning for term in terms}
