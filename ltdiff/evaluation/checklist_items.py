"""The items of two checklists for radiomics, and which topic of a report answers each.

CLEAR, what a paper reports: B. Kocak et al., Insights into Imaging 14 (2023) 75, doi:10.1186/s13244-023-01415-8, version 1.0.
METRICS, how good a study is: B. Kocak et al., Insights into Imaging 15 (2024) 8, doi:10.1186/s13244-023-01572-w, version 1.0.
Both are published under CC BY 4.0; titles are shortened.
"""

from typing import NamedTuple


class Item(NamedTuple):
    """Number and title; `topic` names the answer of `reporting`, "" where a report knows none."""

    number: int
    title: str
    topic: str = ""


CLEAR = (
    Item(1, "Title that names the radiomic method"),
    Item(2, "Structured summary"),
    Item(3, "Keywords for radiomics"),
    Item(4, "Scientific or clinical background"),
    Item(5, "Rationale for a radiomic approach"),
    Item(6, "Objectives"),
    Item(7, "Guidelines or checklists adhered to", "checklist"),
    Item(8, "Ethics: approval, consent, data protection"),
    Item(9, "Sample size calculation"),
    Item(10, "Nature of the study"),
    Item(11, "Eligibility criteria"),
    Item(12, "Flowchart of the technical pipeline"),
    Item(13, "Data source"),
    Item(14, "Data overlap with earlier work"),
    Item(15, "Data split", "split"),
    Item(16, "Imaging protocol", "protocol"),
    Item(17, "Non-radiomic predictors"),
    Item(18, "Reference standard (outcome)", "reference"),
    Item(19, "Segmentation strategy", "segmentation"),
    Item(20, "Operators of the segmentation"),
    Item(21, "Image pre-processing", "preprocessing"),
    Item(22, "Resampling and its parameters", "discretisation"),
    Item(23, "Discretization and its parameters", "discretisation"),
    Item(24, "Image types (original, filtered)", "image_types"),
    Item(25, "Feature extraction software", "software"),
    Item(26, "Feature classes", "classes"),
    Item(27, "Number of features", "classes"),
    Item(28, "Statement on default settings", "defaults"),
    Item(29, "Missing data", "missing"),
    Item(30, "Class imbalance"),
    Item(31, "Reliability of the segmentation"),
    Item(32, "Feature scaling"),
    Item(33, "Dimension reduction", "robust"),
    Item(34, "Algorithm of the model"),
    Item(35, "Training and tuning of the model"),
    Item(36, "Confounders", "confounders"),
    Item(37, "Model selection"),
    Item(38, "Testing technique"),
    Item(39, "Performance metrics and why", "metrics"),
    Item(40, "Uncertainty", "uncertainty"),
    Item(41, "Statistical comparison of performance", "comparison"),
    Item(42, "Non-radiomic and combined methods"),
    Item(43, "Interpretability"),
    Item(44, "Baseline characteristics"),
    Item(45, "Flowchart of eligibility"),
    Item(46, "Feature statistics (reproducibility, selection)", "statistics"),
    Item(47, "Model performance"),
    Item(48, "Comparison with non-radiomic and combined approaches"),
    Item(49, "Overview of findings"),
    Item(50, "Previous work"),
    Item(51, "Practical implications"),
    Item(52, "Strengths and limitations", "limitations"),
    Item(53, "Sharing images and segmentations (not essential)"),
    Item(54, "Sharing feature data", "features"),
    Item(55, "Sharing pre-processing settings", "settings"),
    Item(56, "Sharing source code for modeling"),
    Item(57, "Sharing model files"),
    Item(58, "Sharing a ready-to-use system (not essential)"),
)
METRICS = (
    Item(1, "Adherence to checklists or guidelines", "checklist"),
    Item(2, "Eligibility criteria, representative population"),
    Item(3, "High-quality reference standard", "reference"),
    Item(4, "Multi-center"),
    Item(5, "Clinical translatability of the imaging data"),
    Item(6, "Imaging protocol with acquisition parameters", "protocol"),
    Item(7, "Interval between imaging and reference standard"),
    Item(8, "Transparent segmentation methodology", "segmentation"),
    Item(9, "Formal evaluation of automated segmentation"),
    Item(10, "Test masks by a single reader or automated tool"),
    Item(11, "Appropriate, transparent preprocessing", "preprocessing"),
    Item(12, "Standardized feature extraction software", "software"),
    Item(13, "Transparent feature extraction parameters", "discretisation"),
    Item(14, "Removal of non-robust features", "robust"),
    Item(15, "Removal of redundant features"),
    Item(16, "Dimensionality compared to data size"),
    Item(17, "Robustness of end-to-end deep learning"),
    Item(18, "Proper data partitioning", "split"),
    Item(19, "Confounding factors", "confounders"),
    Item(20, "Appropriate performance metrics", "metrics"),
    Item(21, "Uncertainty", "uncertainty"),
    Item(22, "Calibration"),
    Item(23, "Uni-parametric imaging or proof of its inferiority"),
    Item(24, "Comparison with a non-radiomic approach"),
    Item(25, "Comparison with simple or classical models", "comparison"),
    Item(26, "Internal testing"),
    Item(27, "External testing"),
    Item(28, "Data availability", "features"),
    Item(29, "Code availability", "settings"),
    Item(30, "Model availability"),
)
