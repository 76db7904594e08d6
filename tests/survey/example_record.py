"""A series as the survey keeps it."""

from ltdiff.data.scan_protocol import Protocol
from ltdiff.survey.series_record import SeriesRecord

PROTOCOL = Protocol("Maker", "M", "B", "", 2.5, 120)
RECORD = SeriesRecord(
    series_uid="1.1",
    protocol=PROTOCOL,
    patient_key="p1",
    scan_key="s1",
    folder="/a",
    num_slices=50,
    spacing_y_mm=0.7,
    spacing_x_mm=0.7,
    slice_spacing_mm=2.5,
    rows=512,
    columns=512,
    exposure_mas=90.0,
    tube_current_ma=None,
    ctdi_vol_mgy=None,
    derived=False,
    irregularity="",
    sampled_files=("/a/1",),
)
