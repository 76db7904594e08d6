"""Contours of an RT Structure Set as masks."""

import logging
import re
import shutil
from contextlib import contextmanager

import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE, edit, identity, phantom_hu, set_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from structure_sets import rectangle, to_mm, write_structure_set

from ltdiff.dicom.series import find_series
from ltdiff.dicom.structure_set import _corners, _to_pixels, fill_polygon, find_structure_sets, read_structures
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series


@pytest.fixture
def series(write_series):
    return find_series(write_series())[0][0]


def read_masks(path, series):
    return {name: mask for _, name, mask in read_structures(path, series)}


def box(index, rows, columns):
    mask = np.zeros((NUM_SLICES, SIZE, SIZE), dtype=bool)
    mask[index, slice(*rows), slice(*columns)] = True
    return mask


def test_squares_on_two_slices(series, tmp_path):
    rois = [
        ("Tumour", [rectangle(series, z, (3.5, 8.5), (10.5, 20.5)) for z in (1, 2)]),
        ("Node", [rectangle(series, 4, (0.5, 1.5), (0.5, 2.5))]),
    ]
    masks = read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois), series)
    assert list(masks) == ["Tumour", "Node"]
    assert masks["Tumour"].dtype == bool
    assert np.array_equal(masks["Tumour"], box(slice(1, 3), (4, 9), (11, 21)))
    assert masks["Node"].sum() == 2


@pytest.mark.parametrize("geometric_type", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_a_contour_in_a_contour_is_a_hole(series, tmp_path, geometric_type):
    contours = [rectangle(series, 2, (3.5, 13.5), (3.5, 13.5)), rectangle(series, 2, (5.5, 8.5), (6.5, 10.5))]
    path = write_structure_set(tmp_path / "rs.dcm", series, [("Ring", contours)], geometric_type=geometric_type)
    expected = box(2, (4, 14), (4, 14)) & ~box(2, (6, 9), (7, 11))
    assert np.array_equal(read_masks(path, series)["Ring"], expected)


def test_a_keyhole_is_a_hole(series, tmp_path):
    """One contour that goes in along the line on which it comes out."""
    corners = [(3.5, 3.5), (3.5, 13.5), (13.5, 13.5), (13.5, 3.5), (7, 3.5)]
    hole = [(7, 6.5), (8.5, 6.5), (8.5, 10.5), (5.5, 10.5), (5.5, 6.5), (7, 6.5)]
    contour = [to_mm(series, 2, *corner) for corner in [*corners, *hole, (7, 3.5)]]
    path = write_structure_set(tmp_path / "rs.dcm", series, [("Ring", [contour])])
    expected = box(2, (4, 14), (4, 14)) & ~box(2, (6, 9), (7, 11))
    assert np.array_equal(read_masks(path, series)["Ring"], expected)


def test_a_contour_belongs_to_the_nearest_slice(series, tmp_path, caplog):
    rows_columns = (3.5, 8.5), (3.5, 8.5)
    rois = [("Off", [rectangle(series, z, *rows_columns) for z in (-0.6, 0.4, 1.6, 4.6)])]
    masks = read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois), series)
    assert np.array_equal(masks["Off"], box([0, 2], (4, 9), (4, 9)))
    assert "of the contours of 'Off', 2 lie on no slice" in caplog.text


def test_contours_of_two_planes_do_not_cut_each_other_out(series, tmp_path):
    """Drawn twice as finely as the series is cut: the one nearer to the slice counts."""
    contours = [rectangle(series, 2, (3.5, 8.5), (3.5, 8.5)), rectangle(series, 2.4, (3.5, 9.5), (3.5, 8.5))]
    masks = read_masks(write_structure_set(tmp_path / "rs.dcm", series, [("A", contours)]), series)
    assert np.array_equal(masks["A"], box(2, (4, 9), (4, 9)))


def test_a_contour_across_the_slices_is_on_none(series, tmp_path):
    coronal = [to_mm(series, z, 5, column) for z, column in ((0, 3), (0, 9), (3, 9), (3, 3))]
    rois = [("Coronal", [coronal]), ("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    assert list(read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois), series)) == ["A"]


def test_what_lies_beside_the_grid_is_cut_off(series, tmp_path):
    rois = [("A", [rectangle(series, 0, (-40, 2.5), (28.5, 900))]), ("Far", [rectangle(series, 0, (99, 120), (2, 9))])]
    masks = read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois), series)
    assert list(masks) == ["A"]
    assert np.array_equal(masks["A"], box(0, (0, 3), (29, SIZE)))


def test_a_turned_series(write_series, tmp_path):
    """Prone: rows and columns run the other way round, slices still ascend along their normal."""
    folder = write_series("prone", hu=phantom_hu())
    for path in folder.iterdir():
        edit(path, ImageOrientationPatient=[-1, 0, 0, 0, -1, 0])
    (series,), _ = find_series(folder)
    path = write_structure_set(tmp_path / "rs.dcm", series, [("A", [rectangle(series, 3, (3.5, 8.5), (10.5, 12.5))])])
    assert np.array_equal(read_masks(path, series)["A"], box(3, (4, 9), (11, 13)))


def test_names(series, tmp_path):
    """Twice the same, none, one that would break a table, and one that is taken."""
    contours = [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))]
    names = ["GTV", "GTV", "GTV (2)", "", "a\tb", "GTV"]
    path = write_structure_set(tmp_path / "rs.dcm", series, [(name, contours) for name in names])
    assert list(read_masks(path, series)) == ["GTV", "GTV (2)", "GTV (2) (2)", "ROI 4", "a b", "GTV (3)"]


def test_an_roi_without_contours_is_left_out(series, tmp_path):
    rois = [("Empty", []), ("Absent", None), ("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))]), ("None", [[]])]
    assert list(read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois), series)) == ["A"]


@pytest.mark.parametrize("geometric_type", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_without_a_closed_contour_there_is_nothing(series, tmp_path, geometric_type):
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    path = write_structure_set(tmp_path / "rs.dcm", series, rois, geometric_type=geometric_type)
    with pytest.raises(ValueError, match=r"rs\.dcm: no voxel of the series lies in a closed contour"):
        read_masks(path, series)


def test_structure_sets_are_found_by_series(series, tmp_path, write_series):
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"?" * 90)
    path = write_structure_set(tmp_path / "rs.dcm", series, [("A", [])])
    for root in (tmp_path, path):
        ((found, origin),) = find_structure_sets(root).items()
        assert found == path
        assert origin.is_of(series)
        assert origin.is_in_frame_of(series)
    assert find_structure_sets(series.slices[0].path) == {}
    copy = shutil.copy(path, tmp_path / "IM0001")  # DICOM files may have any name
    assert list(find_structure_sets(tmp_path)) == [copy, path]


@pytest.mark.parametrize(
    ("uids", "sentence"),
    [
        ({"frame_uid": stable_uid("other")}, "is drawn in another FrameOfReferenceUID"),
        ({"series_uid": "", "frame_uid": stable_uid("other")}, "is the structure set of another series"),
        ({"series_uid": stable_uid("other"), "frame_uid": stable_uid("other")}, "is the structure set of another series"),
        ({"series_uid": stable_uid("other"), "frame_uid": ""}, "is the structure set of another series"),
    ],
)
def test_another_series_is_refused(series, tmp_path, uids, sentence):
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    path = write_structure_set(tmp_path / "rs.dcm", series, rois, **uids)
    with pytest.raises(ValueError, match=rf"rs\.dcm {sentence}"):
        read_masks(path, series)


@pytest.mark.parametrize(
    ("uids", "sentence"),
    [
        ({"series_uid": stable_uid("other")}, "another series in the same frame of reference"),
        ({"series_uid": "", "frame_uid": ""}, "taken by its positions alone"),
        ({"series_uid": ""}, "taken by its frame of reference and positions"),
    ],
)
def test_what_does_not_name_the_series_is_said_to_and_has_to_lie_on_its_slices(series, tmp_path, caplog, uids, sentence):
    """Two kernels of one acquisition share frame and slices; so do two phases, and so the user is told."""
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    assert read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois, **uids), series)["A"].sum() == 1
    assert sentence in caplog.text
    rois += [
        ("Between", [rectangle(series, 1.3, (3.5, 9.5), (3.5, 4.5))]),
        ("Beside", [rectangle(series, 2, (3.5, 9.5), (3.5, SIZE + 3))]),
    ]
    assert list(read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois, **uids), series)) == ["A"]
    assert "the region 'Between' is left out: it has a contour at z = -96.75 mm, which is between the slices" in caplog.text
    assert "the region 'Beside' is left out: it has a contour outside the slices" in caplog.text


def test_a_structure_set_of_another_patient_is_refused(series, tmp_path):
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    path = write_structure_set(tmp_path / "rs.dcm", series, rois, series_uid="", frame_uid="")
    edit(path, PatientID="patient-2")
    with pytest.raises(ValueError, match="is the structure set of another series"):
        read_masks(path, series)
    edit(path, PatientID="patient-1")
    assert list(read_masks(path, series)) == ["A"]


def test_it_fits_what_was_derived_from_its_series(series, tmp_path, derived):
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    drawn_on = series.slices[1].sop_instance_uid
    path = write_structure_set(tmp_path / "rs.dcm", series, rois, image_uid=drawn_on)
    np.testing.assert_array_equal(read_masks(path, derived(series))["A"], read_masks(path, series)["A"])
    dataset = pydicom.dcmread(path)  # contours need not name their image: the series must
    contour = dataset.ROIContourSequence[0].ContourSequence[0]
    study = dataset.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    study.RTReferencedSeriesSequence[0].ContourImageSequence = contour.ContourImageSequence
    del contour.ContourImageSequence
    dataset.save_as(path)
    np.testing.assert_array_equal(read_masks(path, derived(series))["A"], read_masks(path, series)["A"])
    write_structure_set(path, series, rois, image_uid=stable_uid("other"), frame_uid=stable_uid("other"))
    with pytest.raises(ValueError, match="is the structure set of another series"):
        read_masks(path, derived(series))


def test_the_series_is_enough(series, tmp_path, caplog):
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    assert read_masks(write_structure_set(tmp_path / "rs.dcm", series, rois, frame_uid=""), series)["A"].sum() == 1
    assert caplog.text == ""


@pytest.mark.parametrize("case", ["cut short", "no DICOM", "a slice"])
def test_a_broken_file_is_one_sentence(series, tmp_path, case):
    rois = [("A", [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))])]
    path = write_structure_set(tmp_path / "rs.dcm", series, rois)
    content = path.read_bytes()
    if case == "cut short":
        path.write_bytes(content[: len(content) - 40])
    if case == "no DICOM":
        path.write_text("contours")
    if case == "a slice":
        path = series.slices[0].path
    with pytest.raises(ValueError, match=rf"{path.name} cannot be read as a structure set: [^(]+$"):
        read_masks(path, series)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("half a corner", "has a ContourData of 11 numbers, where three belong to each corner"),
        ("nowhere", "has a corner farther than 1e\\+06 mm"),
        ("no name of a type", "has a contour without ContourGeometricType"),
        ("text", "has a[n]? (unreadable )?ContourData"),
    ],
)
def test_a_broken_contour_costs_its_roi_by_name(series, tmp_path, caplog, case, sentence):
    contours = [rectangle(series, 1, (3.5, 4.5), (3.5, 4.5))]
    path = write_structure_set(tmp_path / "rs.dcm", series, [("Bad", contours), ("Good", contours)])
    edit(path, lambda dataset: damage(dataset.ROIContourSequence[0].ContourSequence[0], case))
    assert list(read_masks(path, series)) == ["Good"]
    assert re.search(rf"rs\.dcm: the region 'Bad' is left out: it {sentence}", caplog.text)


def damage(contour: pydicom.Dataset, case: str) -> None:
    if case == "half a corner":
        contour.ContourData = contour.ContourData[:-1]
    if case == "nowhere":
        contour.ContourData = ["1e300", *contour.ContourData[1:]]
    if case == "no name of a type":
        del contour.ContourGeometricType
    if case == "text":
        set_raw(contour, "ContourData", b"1\\2\\x\\4\\5\\6\\7\\8\\9")


def test_the_fill_is_that_of_a_naive_loop():
    """Corners on quarters of a pixel, so on centres too, inside and beside the image."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        polygon = rng.integers(-8, 44, (rng.integers(3, 10), 2)) / 4
        expected = [[is_inside(row, column, polygon) for column in range(9)] for row in range(8)]
        assert np.array_equal(fill_polygon(polygon, shape=(8, 9)), expected)


def is_inside(row: int, column: int, polygon: np.ndarray) -> bool:
    """Even-odd: a ray to the left crosses an odd number of edges."""
    inside = False
    for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (y0 <= row) != (y1 <= row) and x0 + (row - y0) * (x1 - x0) / (y1 - y0) <= column:
            inside = not inside
    return inside


def test_a_mask_has_the_area_of_its_polygons(real_data):
    """Planned by hand: tumour, lymph node, carina and vertebra, each corner on the centre of a pixel."""
    (series,), _ = find_series(real_data / "4d-lung-p113" / "ct")
    (path,) = find_structure_sets(real_data / "4d-lung-p113" / "rtstruct")
    masks = read_masks(path, series)
    assert list(masks) == ["Tumor_c40", "LN_c40", "Carina_c40", "Vertebra_c40"]
    drawn = pydicom.dcmread(path).ROIContourSequence
    for mask, roi in zip(masks.values(), drawn, strict=True):
        area = sum(shoelace(_to_pixels(_corners(contour), series, 0)) for contour in roi.ContourSequence)
        assert mask.sum() == pytest.approx(area, rel=0.01)
    voxel_ml = np.prod(series.spacing_mm) * series.slice_spacing_mm / 1000
    assert masks["Tumor_c40"].sum() * voxel_ml == pytest.approx(67.6, abs=0.1)


def shoelace(polygon: np.ndarray) -> float:
    y, x = polygon.T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


@contextmanager
def logged(name="ltdiff"):
    """The messages that are logged within; a test of many examples cannot use a fixture for one."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger(name).addHandler(handler)
    try:
        yield records
    finally:
        logging.getLogger(name).removeHandler(handler)


@pytest.fixture(scope="module")
def one_series(tmp_path_factory):
    """The phantom, for tests that only read it."""
    folder = tmp_path_factory.mktemp("series") / "series"
    write_ct_series(phantom_hu(), out_dir=folder, identity=identity(), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(-10, -20, -100))
    return find_series(folder)[0][0]


pixels = st.floats(2, SIZE - 3)
rounds = st.tuples(st.integers(0, NUM_SLICES - 1), pixels, pixels, st.floats(1, 6), st.integers(5, 40))
"""Slice, centre, radius in pixels, number of corners."""
lists_of_rounds = st.lists(rounds, min_size=1, max_size=4, unique_by=lambda part: part[0])


def polygon(series, index, row, column, radius, num_corners):
    angles = np.linspace(0, 2 * np.pi, num_corners, endpoint=False)
    return [to_mm(series, index, row + radius * np.sin(a), column + radius * np.cos(a)) for a in angles]


def again(contour, *, first, is_reversed, jitter_mm, is_finer):
    """The same line as another program stores it."""
    corners = np.roll(contour, -first, axis=0)[:: -1 if is_reversed else 1]
    if is_finer:
        corners = np.stack([corners, (corners + np.roll(corners, -1, axis=0)) / 2], axis=1).reshape(-1, 3)
    return (corners + np.random.default_rng(first).uniform(-jitter_mm, jitter_mm, (len(corners), 1)) * [1, 1, 0]).tolist()


@settings(max_examples=30)
@given(lists_of_rounds, st.integers(0, 30), st.booleans(), st.floats(0, 0.05), st.booleans())
def test_a_contour_that_is_stored_twice_counts_once(one_series, tmp_path_factory, parts, first, is_reversed, jitter, is_finer):
    path = tmp_path_factory.mktemp("rs") / "rs.dcm"
    parts = [(*place, max(radius, 3.0), num_corners) for *place, radius, num_corners in parts]  # else rounding moves most pixels
    contours = [polygon(one_series, *part) for part in parts]
    copy = again(contours[first % len(contours)], first=first, is_reversed=is_reversed, jitter_mm=jitter, is_finer=is_finer)
    write_structure_set(path, one_series, [("once", contours), ("twice", [*contours, copy])])
    with logged() as messages:
        masks = read_masks(path, one_series)
    assert np.array_equal(masks.get("once"), masks.get("twice"))
    assert not masks or any("stored twice" in message or "no pixel's centre" in message for message in messages)


@settings(max_examples=30)
@given(rounds, st.floats(0.2, 0.8))
def test_a_ring_stays_a_ring_however_thin(one_series, tmp_path_factory, outer, share):
    """As long as pixels lie in it all round."""
    *place, radius, num_corners = outer
    inner_radius = min(share * radius, radius - 1.5)
    contours = [polygon(one_series, *place, radius + 2, num_corners), polygon(one_series, *place, inner_radius + 2, num_corners)]
    rois = [("outer", contours[:1]), ("inner", contours[1:]), ("ring", contours)]
    masks = read_masks(write_structure_set(tmp_path_factory.mktemp("rs") / "rs.dcm", one_series, rois), one_series)
    assert np.array_equal(masks["ring"], masks["outer"] & ~masks["inner"])


BROKEN = ("half a corner", "nowhere", "no name of a type", "text")
KINDS = ("good", "open", "tiny", "beyond", "none", "empty", "other frame", *BROKEN)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(KINDS), rounds), min_size=1, max_size=6))
def test_every_roi_is_read_or_named(one_series, tmp_path_factory, parts):
    """Whatever its contours are, and whatever those of the others are."""
    path = tmp_path_factory.mktemp("rs") / "rs.dcm"
    rois = []
    for number, (kind, (index, row, column, radius, num_corners)) in enumerate(parts):
        index, radius = (index + 50, radius) if kind == "beyond" else (index, 0.01 if kind == "tiny" else radius)
        row, column = (int(row) + 0.5, int(column) + 0.5) if kind == "tiny" else (row, column)
        contours = [polygon(one_series, index, row, column, radius, num_corners)]
        rois.append((f"{kind} {number}", {"none": None, "empty": []}.get(kind, contours)))
    write_structure_set(path, one_series, rois)

    def change(dataset):
        drawn = {int(item.ReferencedROINumber): item for item in dataset.ROIContourSequence}
        for number, (kind, _) in enumerate(parts, 1):
            if kind == "open":
                drawn[number].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"
            elif kind == "other frame":
                dataset.StructureSetROISequence[number - 1].ReferencedFrameOfReferenceUID = stable_uid("other")
            elif kind in BROKEN:
                damage(drawn[number].ContourSequence[0], kind)

    edit(path, change)
    good = {name for name, _ in rois if name.startswith("good")}
    with logged() as messages:
        if good:
            assert set(read_masks(path, one_series)) <= good
        else:
            with pytest.raises(ValueError, match=r"rs\.dcm"):
                read_masks(path, one_series)
    for name in {name for name, _ in rois} - good:
        assert any(f"the region '{name}' is left out" in message for message in messages)


@settings(max_examples=40)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_never_read_as_less(one_series, tmp_path_factory, share):
    path = tmp_path_factory.mktemp("rs") / "rs.dcm"
    rois = [(name, [polygon(one_series, z, 12, 14, 6, 20) for z in (1, 2)]) for name in ("A", "B")]
    content = write_structure_set(path, one_series, rois).read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"rs\.dcm"):
        read_masks(path, one_series)
