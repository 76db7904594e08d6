"""Lesion masks as DICOM Segmentation, and the segmentations of other programs."""

import shutil
import warnings
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from dicom_files import NUM_SLICES, SIZE, SPACING_MM, edit, identity, phantom_hu, set_raw
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from pydicom.uid import SegmentationStorage

from ltdiff.dicom.segmentation import find_segmentations, read_segmentation
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_dataset import stable_uid
from ltdiff.dicom.write_original import write_ct_series
from ltdiff.dicom.write_segmentation import write_segmentation


@pytest.fixture
def series(write_series):
    return find_series(write_series())[0][0]


def lesions() -> np.ndarray:
    labels = np.zeros((NUM_SLICES, SIZE, SIZE), dtype=np.uint8)
    labels[1:3, 5:9, 5:9] = 1
    labels[2, 20:24, 10:20] = 3  # 2 has no pixels
    return labels


@pytest.fixture
def segmentation(series, tmp_path):
    return write_segmentation(series, lesions(), path=tmp_path / "out" / "lesions.dcm", algorithm="phantom")


def read_labels(path, series):
    labels = np.zeros((series.num_slices, series.rows, series.columns), dtype=int)
    for number, _, mask in read_segmentation(path, series):
        assert mask.dtype == bool
        labels[mask] = number
    return labels


def test_round_trip(series, segmentation, caplog):
    assert [(number, name) for number, name, _ in read_segmentation(segmentation, series)] == [(1, "lesion 1"), (3, "lesion 3")]
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())
    assert "1 of 3 segments hold no voxel of the series: 'lesion 2'" in caplog.text


def test_it_conforms(segmentation, conformance_errors):
    assert conformance_errors(segmentation) == []


def test_segments_are_tracked_lesions_of_the_series(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    assert dataset.SOPClassUID == SegmentationStorage
    assert dataset.FrameOfReferenceUID == series.frame_of_reference_uid
    assert dataset.StudyInstanceUID == series.study_instance_uid
    assert [segment.TrackingID for segment in dataset.SegmentSequence] == ["lesion 1", "lesion 2", "lesion 3"]
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == series.series_instance_uid


def test_segmentations_are_found_by_series(series, segmentation, tmp_path):
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"?" * 90)
    for root in (tmp_path, segmentation):
        ((found, origin),) = find_segmentations(root).items()
        assert found == segmentation
        assert origin.series == {series.series_instance_uid}
        assert origin.is_of(series)
        assert origin.is_in_frame_of(series)
    copy = shutil.copy(segmentation, tmp_path / "IM0001")  # DICOM files may have any name
    assert list(find_segmentations(tmp_path)) == [copy, segmentation]


def test_segments_may_overlap(series, segmentation):
    """As other programs write them."""
    dataset = pydicom.dcmread(segmentation)
    frames = dataset.PerFrameFunctionalGroupsSequence
    segments = {frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber for frame in frames}
    assert segments == {1, 3}
    size = dataset.Rows * dataset.Columns // 8
    first = next(n for n, frame in enumerate(frames) if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1)
    pixels = bytearray(dataset.PixelData)
    for n in range(len(frames)):
        pixels[n * size : (n + 1) * size] = dataset.PixelData[first * size : (first + 1) * size]
    dataset.PixelData = bytes(pixels)
    dataset.SegmentsOverlap = "YES"
    dataset.save_as(segmentation)
    first, third = (region.mask for region in read_segmentation(segmentation, series))
    np.testing.assert_array_equal(first, lesions() == 1)
    np.testing.assert_array_equal(third[2], first[2])


def test_frames_find_their_slices_without_being_told_which_they_are_of(series, segmentation):
    """As other programs write them: no word on locations, or on the slice; or turned, or cut to what is not empty."""
    dataset = pydicom.dcmread(segmentation)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence[0].SourceImageSequence[0].SpatialLocationsPreserved
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())
    frames = dataset.pixel_array[:, ::-1, 2:]  # the last row first, and two columns less
    dataset.Columns = frames.shape[2]
    dataset.PixelData = np.packbits(frames.ravel(), bitorder="little").tobytes()
    plane = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    rows, columns = np.array(plane.ImageOrientationPatient[:3]), np.array(plane.ImageOrientationPatient[3:])
    plane.ImageOrientationPatient = [*rows, *-columns]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        moved = 2 * series.spacing_mm[1] * rows + (SIZE - 1) * series.spacing_mm[0] * columns
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + moved)
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())


@pytest.mark.parametrize("moved_mm", [(0, 0, 0.5), (0.3, 0, 0)])
def test_frames_beside_the_grid_are_refused(series, segmentation, moved_mm):
    dataset = pydicom.dcmread(segmentation)
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + moved_mm)
    dataset.save_as(segmentation)
    with pytest.raises(ValueError, match=r"lesions\.dcm lies on another grid than the slices of the series"):
        read_labels(segmentation, series)


def test_frames_whose_positions_were_rounded_find_their_slices(series, segmentation):
    dataset = pydicom.dcmread(segmentation)
    for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        place = frame.PlanePositionSequence[0]
        moved_mm = ((0.05, -0.04, 0.05), (-0.05, 0, -0.1))[number % 2]
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + moved_mm)
    dataset.save_as(segmentation)
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())


def test_frames_beyond_the_series_are_passed_over(series, segmentation):
    part = replace(series, slices=series.slices[2:])
    np.testing.assert_array_equal(read_labels(segmentation, part), lesions()[2:])


def write_other(series, path, pixels, *, kind="BINARY", labels=None, **changes):
    """A segmentation as another program writes it: `pixels` (Z, Y, X) labels, or (Z, Y, X, segments)."""
    sources = [pydicom.dcmread(slice_header.path) for slice_header in series.slices]
    names = labels or [f"part {n}" for n in range(1, (pixels.shape[3] if pixels.ndim == 4 else int(pixels.max())) + 1)]
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            algorithm_type="MANUAL",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Lesion,
        )
        for number, name in enumerate(names, 1)
    ]
    uids = {"series_instance_uid": stable_uid(str(path)), "sop_instance_uid": stable_uid(str(path), "1")}
    maker = {"manufacturer": "ACME", "manufacturer_model_name": "X", "software_versions": "1", "device_serial_number": "1"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        segmentation = hd.seg.Segmentation(
            sources, pixels, kind, segments, series_number=9, instance_number=1, **uids, **maker, **changes
        )
    segmentation.save_as(path)
    return path


def test_a_label_map_is_read(series, tmp_path):
    path = write_other(series, tmp_path / "seg.dcm", lesions(), kind="LABELMAP")
    assert pydicom.dcmread(path).SOPClassUID != SegmentationStorage
    np.testing.assert_array_equal(read_labels(path, series), lesions())
    assert [name for _, name, _ in read_segmentation(path, series)] == ["part 1", "part 3"]
    assert list(find_segmentations(path)) == [path]


@pytest.mark.parametrize("num_bits", [8, 16])
def test_more_than_255_segments(series, tmp_path, num_bits):
    labels = np.zeros((NUM_SLICES, SIZE, SIZE), dtype=np.uint16)
    labels[2, :18, :18] = np.arange(1, 325).reshape(18, 18) if num_bits == 16 else 1
    path = write_other(series, tmp_path / "seg.dcm", labels, kind="LABELMAP")
    np.testing.assert_array_equal(read_labels(path, series), labels)
    path = write_segmentation(series, labels, path=tmp_path / "ours.dcm", algorithm="phantom")
    np.testing.assert_array_equal(read_labels(path, series), labels)


def test_a_fractional_segmentation_of_all_or_nothing_is_read_and_any_other_is_refused(series, tmp_path):
    inside = (lesions() == 1).astype(float)[..., None]
    fractional = {"kind": "FRACTIONAL", "fractional_type": "PROBABILITY"}
    path = write_other(series, tmp_path / "seg.dcm", inside, **fractional)
    np.testing.assert_array_equal(read_labels(path, series), inside[..., 0])
    inside[1, 5, 5:7] = 0.7
    path = write_other(series, tmp_path / "seg.dcm", inside, **fractional)
    with pytest.raises(
        ValueError, match=r"seg\.dcm is a FRACTIONAL segmentation with 2 pixels between 0 and 255 in frame 2: choose"
    ):
        read_labels(path, series)


def test_names_that_are_there_twice_or_not_at_all(series, tmp_path):
    pixels = np.stack([lesions() == 1] * 3, axis=-1).astype(np.uint8)
    path = write_other(series, tmp_path / "seg.dcm", pixels, labels=["GTV", "GTV", "a\tb"])
    assert [name for _, name, _ in read_segmentation(path, series)] == ["GTV", "GTV (2)", "a b"]
    edit(path, lambda dataset: dataset.SegmentSequence[0].__delattr__("SegmentLabel"))
    assert [name for _, name, _ in read_segmentation(path, series)] == ["label_1", "GTV", "a b"]


def without_references(dataset: pydicom.Dataset) -> None:
    del dataset.ReferencedSeriesSequence
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence


@pytest.mark.parametrize("absent", ["ReferencedSeriesSequence", "SegmentedPropertyTypeCodeSequence", "references"])
def test_what_a_segmentation_may_lack(series, segmentation, caplog, absent):
    def change(dataset):
        if absent == "ReferencedSeriesSequence":
            del dataset.ReferencedSeriesSequence
        elif absent == "references":
            without_references(dataset)
        else:
            for segment in dataset.SegmentSequence:
                del segment.SegmentedPropertyTypeCodeSequence

    edit(segmentation, change)
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())
    assert ("taken by its frame of reference and positions" in caplog.text) == (absent == "references")


@pytest.mark.parametrize(
    ("absent", "sentence"),
    [
        ("PixelMeasuresSequence", "has a frame without PixelMeasuresSequence"),
        ("SegmentIdentificationSequence", "has a frame without SegmentIdentificationSequence"),
        ("SegmentationType", "has a SegmentationType that is none of BINARY, FRACTIONAL and LABELMAP"),
        ("NumberOfFrames", "has 2 frames, and says of 3 where they lie"),
        ("colour", "lies on another grid"),
        ("PixelData", "its frame 1 cannot be decoded"),
    ],
)
def test_what_it_may_not_lack_is_named(series, segmentation, absent, sentence):
    def change(dataset):
        groups = [*dataset.SharedFunctionalGroupsSequence, *dataset.PerFrameFunctionalGroupsSequence]
        if absent == "NumberOfFrames":
            dataset.NumberOfFrames = 2
        elif absent == "colour":
            dataset.BitsAllocated, dataset.SamplesPerPixel, dataset.PlanarConfiguration = 8, 3, 0
            dataset.PhotometricInterpretation, dataset.PixelData = "RGB", bytes(3 * 3 * SIZE * SIZE)
        elif absent == "PixelData":
            dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) * 2 // 3]
        else:
            for part in (dataset, *groups):
                if absent in part:
                    delattr(part, absent)

    edit(segmentation, change)
    with pytest.raises(ValueError, match=rf"lesions\.dcm .*{sentence}"):
        read_labels(segmentation, series)


def test_odd_values_are_not_quoted_by_a_library(series, segmentation, recwarn):
    """A patient's name may be among them."""

    def change(dataset):
        set_raw(
            dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0],
            "ReferencedSOPInstanceUID",
            b"Mr. X",
        )
        set_raw(dataset.SegmentSequence[0], "SegmentNumber", b"\1\0")

    edit(segmentation, change)
    assert list(find_segmentations(segmentation)) == [segmentation]
    np.testing.assert_array_equal(read_labels(segmentation, series), lesions())
    assert list(recwarn) == []


def test_a_segmentation_of_the_other_kernel_is_accepted_and_said_so(segmentation, write_series, caplog):
    (other,), _ = find_series(write_series("other", series_uid=stable_uid("other"), kernel="Bl64"))
    np.testing.assert_array_equal(read_labels(segmentation, other), lesions())
    assert "lesions.dcm was drawn on another series in the same frame of reference" in caplog.text


def test_it_is_no_ct_series(segmentation):
    series, (issue,) = find_series(segmentation)
    assert (series, issue.action) == ([], "skip")


def test_another_series_is_refused(segmentation, write_series):
    uids = {"series_uid": stable_uid("other"), "frame_of_reference_uid": stable_uid("other frame")}
    (other,), _ = find_series(write_series("other", **uids))
    with pytest.raises(ValueError, match="is the segmentation of another series"):
        read_labels(segmentation, other)


def test_it_fits_what_was_derived_from_its_series(series, segmentation, derived):
    np.testing.assert_array_equal(read_labels(segmentation, derived(series)), lesions())


def test_another_file_is_refused(series):
    with pytest.raises(ValueError, match="cannot be read as a segmentation"):
        read_labels(series.slices[0].path, series)


@pytest.mark.parametrize(
    ("labels", "sentence"), [(lesions()[1:], "do not fit"), (np.zeros_like(lesions()), "there is no lesion")]
)
def test_labels_that_cannot_be_written(series, tmp_path, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        write_segmentation(series, labels, path=tmp_path / "x.dcm", algorithm="phantom")


@pytest.fixture(scope="module")
def one_series(tmp_path_factory):
    """The phantom, for tests that only read it."""
    folder = tmp_path_factory.mktemp("series") / "series"
    write_ct_series(phantom_hu(), out_dir=folder, identity=identity(), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(-10, -20, -100))
    return find_series(folder)[0][0]


boxes = st.tuples(*[st.tuples(st.integers(0, size - 2), st.integers(1, 9)) for size in (NUM_SLICES, SIZE, SIZE)])


def rearranged(dataset, order):
    """The frames in another order, as no two programs agree on one."""
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)[order]
    dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[i] for i in order]
    dataset.PixelData = packed(frames, dataset)


def packed(frames, dataset):
    is_packed = dataset.BitsAllocated == 1
    content = np.packbits(frames.ravel(), bitorder="little").tobytes() if is_packed else frames.tobytes()
    return content + b"\0" * (len(content) % 2)


@settings(max_examples=30)
@given(
    st.lists(boxes, min_size=1, max_size=5),
    st.sampled_from(["BINARY", "LABELMAP", "FRACTIONAL"]),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.booleans(),
)
def test_any_kind_of_segmentation_is_read(one_series, tmp_path_factory, parts, kind, random, names_images, is_turned):
    """With segments that overlap, unless it is a label map; frames in any order, in either direction, naming images or not."""
    masks = np.zeros((NUM_SLICES, SIZE, SIZE, len(parts)), dtype=np.uint8)
    for number, part in enumerate(parts):
        masks[*(slice(start, start + size) for start, size in part), number] = 1
    if kind == "LABELMAP":
        masks[np.cumsum(masks, axis=-1) > 1] = 0
    pixels = (masks * np.arange(1, len(parts) + 1)).max(axis=-1).astype(np.uint8) if kind == "LABELMAP" else masks
    extra = {"fractional_type": "OCCUPANCY"} if kind == "FRACTIONAL" else {}
    path = tmp_path_factory.mktemp("seg") / "seg.dcm"
    write_other(
        one_series,
        path,
        pixels.astype(float) if extra else pixels,
        kind=kind,
        labels=[f"part {n}" for n in range(len(parts))],
        **extra,
    )

    def change(dataset):
        order = list(range(len(dataset.PerFrameFunctionalGroupsSequence)))
        random.shuffle(order)
        rearranged(dataset, order)
        if not names_images:
            without_references(dataset)
        if is_turned:
            turn(dataset)

    edit(path, change)
    found = {name: mask for _, name, mask in read_segmentation(path, one_series)}
    assert found.keys() == {f"part {n}" for n in range(len(parts)) if masks[..., n].any()}
    for name, mask in found.items():
        np.testing.assert_array_equal(mask, masks[..., int(name[5:])] == 1)


def turn(dataset):
    """The last row first."""
    dataset.PixelData = packed(dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)[:, ::-1], dataset)
    (plane,) = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    columns = np.array(plane.ImageOrientationPatient[3:])
    plane.ImageOrientationPatient = [*plane.ImageOrientationPatient[:3], *-columns]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        (place,) = frame.PlanePositionSequence
        place.ImagePositionPatient = list(np.array(place.ImagePositionPatient, float) + (SIZE - 1) * SPACING_MM[1] * columns)


@settings(max_examples=30)
@given(st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_short_is_never_read_as_less(one_series, tmp_path_factory, share):
    folder = tmp_path_factory.mktemp("seg")
    path = write_segmentation(one_series, lesions(), path=folder / "seg.dcm", algorithm="phantom")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"seg\.dcm"):
        read_labels(path, one_series)
