"""`ltdiff radiomics`."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ltdiff.commands.command_line import Config, Set, UsageError, print_lines
from ltdiff.system.text import printable

if TYPE_CHECKING:
    import pandas as pd

    from ltdiff.data.region_report import RegionReport
    from ltdiff.radiomics.extract import Standardize
    from ltdiff.radiomics.feature_sets import FeatureSet

logger = logging.getLogger(__name__)


def radiomics(
    image: Path | None = None,
    mask: Path | None = None,
    /,
    *,
    features: Literal["pyradiomics", "catalogue", "ibsi", "wavelet"] = "catalogue",
    ibsi_configuration: Literal["A", "B", "C", "D", "E", "digital_phantom"] | None = None,
    out: Path | None = None,
    dicom: Path | None = None,
    only: str | None = None,
    model: Path | None = None,
    force: bool = False,
    list_names: Annotated[bool, Parameter(name="--list")] = False,
    config: Config = "default",
    settings: Set = (),
) -> int:
    """Measure the features of every region of a mask: the catalogue, 1,450 features in eight classes, or another set.

    Args:
        image: DICOM series or volume file (NIfTI, NRRD, MHA).
        mask: Its regions: a volume file on the same grid, a DICOM SEG or RT Structure Set, or a folder with one of these.
        features: The catalogue; the 482 of IBSI 1 after IBSI's image processing, which the settings `ibsi` control; four classes
            of PyRadiomics in the plane; or 702 of intensity, texture and wavelets in space.
        ibsi_configuration: Image processing of IBSI's reference values, of the CT phantom (A to E) or of the digital phantom.
            --set ibsi.KEY=VALUE changes single settings.
        out: Table with a row per region, .parquet or .csv; without it one line per feature is printed.
        dicom: Folder for the same table as a DICOM Structured Report (SR), with the regions as a DICOM SEG where the mask is none
            of the same study; for a DICOM series.
        only: Some classes (GLCM25D, GLCM3D, GLRLM25D, ID, IH, NID25D, NID3D, GOH; of IBSI morph, loc, stat, ih, ivh, cm, rlm,
            szm, dzm, ngt, ngl; of PyRadiomics firstorder, glcm, glrlm, ngtdm; intensity, texture, wavelet) or single features,
            separated by commas.
        model: Measure what this model makes of the image: of its mean, a sample or the match, or the features' expectation over
            samples, whichever agreed best with the target on its validation pairs.
        force: Measure also what the model was not trained for.
        list_names: Print the names of all features, one a line, and nothing else.
    """
    if list_names:
        if image or ibsi_configuration or out or dicom or only or model or settings or config != "default":
            raise UsageError("--list takes no other arguments but --features: they would have no effect")
        _print_names(features)
        return 0
    if ibsi_configuration is not None and features != "ibsi":
        raise UsageError("--ibsi_configuration needs --features ibsi: without it, it would have no effect")
    if force and model is None:
        raise UsageError("--force needs --model: without it, it would have no effect")
    if image is None or mask is None:
        missing = "IMAGE and MASK are" if image is None else "MASK is"
        raise UsageError(f"{missing} required")
    from ltdiff.radiomics.extract import extract_radiomics
    from ltdiff.radiomics.feature_table import check_table_path

    if out is not None:
        check_table_path(out)  # before minutes of work
    names = None if only is None else [name.strip() for name in only.split(",")]
    feature_set = _read_feature_set(features, ibsi_configuration, config=config, settings=settings)
    standardize, made_by = (None, "") if model is None else _use_model(model, image, force=force, is_described=dicom is not None)
    report = None if dicom is None else _start_report(image, mask, dicom)
    keep = None if report is None else report.add
    table = extract_radiomics(image, mask, feature_set=feature_set, only=names, standardize=standardize, keep=keep)
    _hand_out(table, out)
    if report is not None and dicom is not None:
        from ltdiff.radiomics.feature_report import write_report

        written = write_report(report, table, feature_set=feature_set, folder=dicom, made_by=[made_by] if made_by else [])
        logger.info("written to %s: %s", printable(dicom), ", ".join(path.name for path in written))
    return 0


def _print_names(features: str) -> None:
    from ltdiff.radiomics.feature_sets import FEATURE_SETS

    print_lines("".join(f"{name}\n" for name in FEATURE_SETS[features].choose(None)))


def _read_feature_set(features: str, ibsi_configuration: str | None, *, config: str, settings: Sequence[str]) -> "FeatureSet":
    from ltdiff.commands.configuration import read_settings_of
    from ltdiff.radiomics.config import IBSI_CONFIGURATIONS
    from ltdiff.radiomics.feature_sets import feature_set_of

    whole = {} if ibsi_configuration is None else {"ibsi": IBSI_CONFIGURATIONS[ibsi_configuration]}
    read = read_settings_of(config, settings, sections=[features], whole=whole)
    return feature_set_of(features, catalogue_config=read.catalogue, ibsi_config=read.ibsi)


def _use_model(model: Path, image: Path, *, force: bool, is_described: bool) -> "tuple[Standardize, str]":
    """What makes the volumes that are measured instead of the image; and, where a report says it, how it does so."""
    from ltdiff.uncertainty.standardized_volumes import describe_volumes, standardized_volumes

    standardize = partial(standardized_volumes, series=image, model=model, force=force)
    return standardize, describe_volumes(series=image, model=model) if is_described else ""


def _hand_out(table: "pd.DataFrame", out: Path | None) -> None:
    """Write the table, or print it."""
    from ltdiff.radiomics.extract import to_text
    from ltdiff.radiomics.feature_table import write_table

    if out is None:
        print_lines(to_text(table))
    else:
        write_table(table, out)
        print(f"{out}: {', '.join(table['roi'])}")


def _start_report(image: Path, mask: Path, folder: Path) -> "RegionReport":
    """What gathers the regions for a DICOM report in `folder`, which is made before minutes of work."""
    from ltdiff.data.read_scan import read_scan
    from ltdiff.data.region_report import RegionReport

    report = RegionReport(read_scan(image), mask)
    folder.mkdir(parents=True, exist_ok=True)
    return report
