"""Masks for the slices of a manifest: by z of the series, or by the series a segmentation names. Masks by name for a scan."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from structure_sets import rectangle, write_structure_set
from tiny_run import save_volume

from ltdiff.data.masks import check_regular, read_labels, read_labels_by_series, read_named_masks
from ltdiff.data.pairing import pair_archive, pair_named
from ltdiff.data.read_scan import read_scan
from ltdiff.data.volume_files import write_volume
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_segmentation import write_segmentation

SHAPE = (5, 24, 20)


def named_masks(mask, scan):
    return dict(read_named_masks(mask, scan, hu=scan.read_hu()))


@pytest.fixture
def pairs(tmp_path):
    """A manifest of five pairs in volume files, and the folder they are in."""
    rng = np.random.default_rng(0)
    for name in ("source", "target"):
        save_volume(rng.normal(size=SHAPE), tmp_path / f"{name}.nrrd")
    manifest = pair_named(tmp_path / "source.nrrd", tmp_path / "target.nrrd", split="z:0.7").manifest
    return manifest, tmp_path


def test_a_volume_mask_is_cut_to_the_rows_asked_for(pairs):
    manifest, folder = pairs
    labels = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3
    save_volume(labels.astype(float), folder / "mask.nii.gz")
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm").iloc[[4, 1]]
    assert np.array_equal(read_labels(folder / "mask.nii.gz", manifest, pairs=sources), labels[[4, 1]])


def test_separate_lesions_of_a_binary_mask_are_numbered(pairs):
    manifest, folder = pairs
    mask = np.zeros(SHAPE)
    mask[1:3, 2:6, 2:6] = mask[2:4, 12:15, 12:15] = 1
    save_volume(mask, folder / "mask.nii.gz")
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm")
    labels = read_labels(folder / "mask.nii.gz", manifest, pairs=sources)
    np.testing.assert_array_equal(labels > 0, mask > 0)
    assert (labels[2, 3, 3], labels[2, 13, 13]) == (1, 2)


@pytest.fixture
def dicom_pairs(tmp_path, write_dicom):
    """A manifest of five pairs of DICOM slices, and the folder of the source."""
    rng = np.random.default_rng(0)
    kernels = {"source": "B", "target": "L"}
    for name, kernel in kernels.items():
        write_dicom(tmp_path / name, rng.normal(-400, 50, SHAPE).round(), kernel=kernel, spacing_mm=0.75)
    return pair_named(tmp_path / "source", tmp_path / "target", split="z:0.7").manifest, tmp_path / "source"


def test_a_volume_mask_of_a_dicom_series_lies_on_its_slices(dicom_pairs, labels):
    manifest, folder = dicom_pairs
    path = save_labels(labels, folder.parent / "mask.nii.gz", read_scan(folder))
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm").iloc[[4, 1]]
    assert np.array_equal(read_labels(path, manifest, pairs=sources), labels[[4, 1]])


def test_a_volume_mask_beside_the_slices_is_refused(dicom_pairs, labels):
    """It has their shape, but its regions would lie elsewhere."""
    manifest, folder = dicom_pairs
    scan = read_scan(folder)
    path = save_labels(labels, folder.parent / "mask.nrrd", scan, origin_mm=(0.0, 0.0, 77.0))
    with pytest.raises(ValueError, match=r"mask\.nrrd: the mask lies up to .* voxels beside the image"):
        read_labels(path, manifest, pairs=manifest[manifest["role"] == "source"])


def test_the_slices_of_a_series_may_lie_in_several_folders(tmp_path, write_dicom, labels):
    """As on a CD."""
    rng = np.random.default_rng(0)
    for name, kernel in {"source": "B", "target": "L"}.items():
        write_dicom(tmp_path / "cd" / name, rng.normal(-400, 50, SHAPE).round(), kernel=kernel)
    moved = sorted((tmp_path / "cd" / "source").iterdir())[3:]
    (tmp_path / "cd" / "more").mkdir()
    for file in moved:
        file.rename(tmp_path / "cd" / "more" / file.name)
    manifest = pair_archive(tmp_path / "cd", target_kernel="L").manifest
    series = next(one for one in find_series(tmp_path / "cd")[0] if one.kernel == "B")
    write_segmentation(series, labels, path=tmp_path / "seg.dcm", algorithm="test")
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm")
    assert np.array_equal(read_labels(tmp_path / "seg.dcm", manifest, pairs=sources), labels)
    path = save_labels(labels, tmp_path / "mask.nii.gz", series)
    assert np.array_equal(read_labels(path, manifest, pairs=sources), labels)
    scored = sources.iloc[:2].reset_index(drop=True)  # which all lie in one of the folders
    for mask in (tmp_path / "seg.dcm", path):
        assert np.array_equal(read_labels(mask, manifest, pairs=scored), labels[:2])
    moved_file = tmp_path / "cd" / "more" / moved[0].name
    moved_file.unlink()
    with pytest.raises(ValueError, match="is no longer what it was when it was paired"):
        read_labels(tmp_path / "seg.dcm", manifest, pairs=sources)


def test_a_mask_of_another_size_is_refused(pairs):
    manifest, folder = pairs
    save_volume(np.ones((4, 24, 20)), folder / "mask.nii.gz")
    with pytest.raises(ValueError, match=r"mask.nii.gz.*\(4, 24, 20\).*\(5, 24, 20\)"):
        read_labels(folder / "mask.nii.gz", manifest, pairs=manifest[manifest["role"] == "source"])


def test_a_folder_without_a_fitting_segmentation_is_refused(pairs):
    manifest, folder = pairs
    with pytest.raises(ValueError, match="no DICOM segmentation"):
        read_labels(folder, manifest, pairs=manifest[manifest["role"] == "source"])


@pytest.fixture
def segmented(dicom_pairs, labels, tmp_path):
    """segment(role) -> a segmentation of that series of the pairs."""

    def segment(role, name="seg"):
        series = find_series(tmp_path / role)[0][0]
        return write_segmentation(series, labels, path=tmp_path / "masks" / name, algorithm=name)

    return segment


def test_segmentations_of_other_series_do_not_matter(dicom_pairs, segmented, write_dicom, labels, tmp_path):
    """An archive has many, two readers' of one scan among them."""
    manifest, _ = dicom_pairs
    other = find_series(write_dicom(tmp_path / "other", np.zeros(SHAPE), frame="1.2.10"))[0][0]
    for name in ("reader 1", "reader 2"):
        write_segmentation(other, labels, path=tmp_path / "masks" / name, algorithm=name)
    segmented("target")
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm")
    assert np.array_equal(read_labels(tmp_path / "masks", manifest, pairs=sources), labels)


def test_a_segmentation_fits_slices_without_a_partner(dicom_pairs, segmented, labels):
    manifest = dicom_pairs[0].assign(pair_id=None)
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm").iloc[[4, 1]]
    assert np.array_equal(read_labels(segmented("source"), manifest, pairs=sources), labels[[4, 1]])


@pytest.mark.parametrize("roles", [("source", "source"), ("source", "target")])
def test_of_two_segmentations_of_the_same_slices_none_is_preferred(dicom_pairs, segmented, tmp_path, roles):
    manifest, _ = dicom_pairs
    for number, role in enumerate(roles):
        segmented(role, f"seg {number}")
    with pytest.raises(ValueError, match=r"seg 0 and .*seg 1 are masks of the same slices: name one of them"):
        read_labels(tmp_path / "masks", manifest, pairs=manifest[manifest["role"] == "source"])


def test_labels_of_one_series_after_the_other(dicom_pairs, segmented, write_dicom, tmp_path, labels):
    """The mask need not show each of them, but one."""
    manifest, _ = dicom_pairs
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm")
    write_dicom(tmp_path / "elsewhere", np.zeros(SHAPE), frame="1.2.10")
    other = find_series(tmp_path / "elsewhere")[0][0]
    paths = [str(header.path) for header in other.slices]
    strangers = sources.assign(series_uid=other.series_instance_uid, path=paths, pair_id=None)
    both = pd.concat([manifest, strangers])
    segmented("source")
    first, second = read_labels_by_series(tmp_path / "masks", both, parts=[strangers, sources])
    assert not first.any()
    np.testing.assert_array_equal(second, labels)
    with pytest.raises(ValueError, match="no DICOM segmentation"):
        list(read_labels_by_series(tmp_path / "masks", both, parts=[strangers]))


class Watched(pd.DataFrame):
    """A table that counts how often its columns or rows are taken."""

    _metadata = ("num_taken",)

    def __getitem__(self, key):
        self.num_taken += 1
        return super().__getitem__(key)


def test_a_manifest_is_gone_through_once_for_all_its_series(dicom_pairs, segmented):
    manifest, _ = dicom_pairs
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm")
    segmented("source")
    path = segmented("target")
    watched = Watched(manifest)
    num_taken = []
    for parts in ([sources], [sources.iloc[:2], sources.iloc[2:4], sources.iloc[4:]]):
        watched.num_taken = 0
        labels = np.concatenate(list(read_labels_by_series(path, watched, parts=parts)))
        assert labels.any()
        num_taken.append(watched.num_taken)
    assert num_taken[0] == num_taken[1] > 0


def test_a_mask_that_is_not_there_is_said_to_be_missing(dicom_pairs, tmp_path):
    manifest, _ = dicom_pairs
    with pytest.raises(ValueError, match=r"leison\.dcm: there is no such file or folder"):
        read_labels(tmp_path / "leison.dcm", manifest, pairs=manifest[manifest["role"] == "source"])


def test_pairs_whose_slices_form_no_regular_grid_are_named(dicom_pairs, pairs):
    """Where features in space are measured. They pair, as their slices do."""
    manifest, folder = dicom_pairs
    check_regular(manifest, pairs=manifest[manifest["role"] == "source"])
    check_regular(pairs[0], pairs=pairs[0][pairs[0]["role"] == "source"])
    for name in ("source", "target"):
        for path in (folder.parent / name).iterdir():
            dataset = pydicom.dcmread(path)
            x, y, z = map(float, dataset.ImagePositionPatient)
            dataset.ImagePositionPatient = [x, y + 0.2 * z, z]
            dataset.save_as(path)
    tilted = pair_named(folder, folder.parent / "target", split="z:0.7").manifest
    with pytest.raises(ValueError, match=r"need a regular grid, .*source.* forms none: its gantry was tilted by 11\.3°"):
        check_regular(tilted, pairs=tilted[tilted["role"] == "source"])


@pytest.fixture
def scan(tmp_path, write_dicom):
    return read_scan(write_dicom(tmp_path / "series", np.zeros(SHAPE, dtype=np.int16), spacing_mm=0.75))


@pytest.fixture
def labels():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:3, 5:9, 5:9] = 1
    labels[2, 12:20, 10:14] = 3
    return labels


def save_labels(labels, path, scan, **changes):
    """On the grid of the scan unless told otherwise."""
    write_volume(replace(scan.read_volume(), hu=labels.astype(np.float32), **changes), path)
    return path


def assert_is(found, labels, *, name="label_"):
    assert list(found) == [f"{name}1", f"{name}3"]
    for name, mask in found.items():
        assert mask.dtype == bool
        assert np.array_equal(mask, labels == int(name[-1]))


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nrrd", "mask.mha"])
def test_labels_of_a_volume_file_have_names(tmp_path, scan, labels, name):
    assert_is(named_masks(save_labels(labels, tmp_path / name, scan), scan), labels)


def test_slices_may_run_the_other_way_in_the_file(tmp_path, scan, labels):
    assert_is(named_masks(save_labels(labels, tmp_path / "m.nii", scan, stored_orientation="LAI"), scan), labels)


@pytest.mark.parametrize("orientation", [[-1, 0, 0, 0, -1, 0], [0, 1, 0, -1, 0, 0]])
def test_a_volume_mask_of_a_patient_who_lies_otherwise(tmp_path, write_dicom, labels, orientation):
    """Prone, or on the side: the series keeps its rows and columns as they are stored, and a converted file turns them."""
    folder = write_dicom(tmp_path / "turned", np.zeros(SHAPE, dtype=np.int16))
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImageOrientationPatient = orientation
        dataset.save_as(path)
    turned = read_scan(folder)
    path = save_labels(labels, tmp_path / "mask.nii.gz", turned)
    assert sitk.ReadImage(path).GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert_is(named_masks(path, turned), labels)


def test_a_segmentation_is_found_by_its_series(tmp_path, scan, labels):
    path = write_segmentation(scan, labels, path=tmp_path / "masks" / "seg.dcm", algorithm="test")
    assert_is(named_masks(path, scan), labels, name="lesion ")
    assert_is(named_masks(path.parent, scan), labels, name="lesion ")


def test_rois_of_a_structure_set_keep_their_names(tmp_path, scan):
    rois = [("GTV-1", [rectangle(scan, 2, (3.5, 8.5), (10.5, 12.5))])]
    path = write_structure_set(tmp_path / "rs.dcm", scan, rois)
    for mask in (path, tmp_path):
        (name, voxels), *others = named_masks(mask, scan).items()
        assert (name, voxels.sum(), others) == ("GTV-1", 10, [])


def test_a_structure_set_that_names_no_series(tmp_path, scan):
    rois = [("A", [rectangle(scan, 2, (3.5, 8.5), (10.5, 12.5))])]
    path = write_structure_set(tmp_path / "rs.dcm", scan, rois, series_uid="")
    assert named_masks(path, scan)["A"].sum() == 10


def test_two_kinds_of_mask_have_to_be_told_apart(tmp_path, scan, labels):
    write_segmentation(scan, labels, path=tmp_path / "seg.dcm", algorithm="test")
    write_structure_set(tmp_path / "rs.dcm", scan, [("A", [])])
    with pytest.raises(ValueError, match=r"seg\.dcm and .*rs\.dcm are masks of the same slices: name one of them"):
        named_masks(tmp_path, scan)


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing_mm": (5.0, 0.7501, 0.7501)},
        {"spacing_mm": (5.04, 0.75, 0.75)},
        {"origin_mm": (-50.05, -40.05, 0.1)},
        {"direction": (1, 1e-4, 0, -1e-4, 1, 0, 0, 0, 1)},
    ],
)
def test_a_rounded_header_is_no_other_grid(tmp_path, scan, labels, changes):
    assert_is(named_masks(save_labels(labels, tmp_path / "mask.nrrd", scan, **changes), scan), labels)


@pytest.mark.parametrize(
    ("changes", "distance"),
    [
        ({"spacing_mm": (5.0, 0.8, 0.75)}, "1.53"),
        ({"spacing_mm": (4.5, 0.75, 0.75)}, "0.4"),
        ({"origin_mm": (-50.375, -40.375, 0.0)}, "0.5"),
        ({"origin_mm": (-50.0, -40.0, -5.0)}, "1 "),
        ({"direction": (0.995, -0.0998, 0, 0.0998, 0.995, 0, 0, 0, 1)}, "2"),
    ],
)
def test_a_mask_on_another_grid_is_refused(tmp_path, scan, labels, changes, distance):
    path = save_labels(labels, tmp_path / "mask.nrrd", scan, **changes)
    with pytest.raises(ValueError, match=rf"mask\.nrrd: the mask lies up to {distance}.*voxels beside .*spacing .* mm"):
        named_masks(path, scan)


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("another shape", r"mask\.nrrd: the mask has \(4, 24, 20\) voxels, the image \(5, 24, 20\)"),
        ("empty", r"mask\.nrrd: the mask is empty"),
        ("fractions", r"mask\.nrrd: a mask holds whole numbers"),
        ("absent", r"mask\.nrrd: there is no such file or folder"),
        ("another series", r"other: there is no DICOM segmentation and no RT structure set of this series"),
        ("segmentation of another series", r"seg\.dcm is the segmentation of another series"),
        ("structure set of another series", r"rs\.dcm is the structure set of another series"),
        ("text", r"mask\.txt: this is no DICOM segmentation or RT structure set of this series"),
    ],
)
def test_what_is_no_mask_of_the_scan_is_one_sentence(tmp_path, scan, labels, write_dicom, case, sentence):
    path = tmp_path / "mask.nrrd"
    if case == "another shape":
        save_labels(labels[1:], path, scan)
    if case == "empty":
        save_labels(0 * labels, path, scan)
    if case == "fractions":
        save_labels(labels / 2, path, scan)
    if case.endswith("another series"):
        path = write_dicom(tmp_path / "other", np.zeros(SHAPE, dtype=np.int16), frame="1.2.10")
        other = read_scan(path)
        write_segmentation(other, labels, path=path / "seg.dcm", algorithm="test")
        write_structure_set(path / "rs.dcm", other, [("A", [rectangle(other, 2, (3.5, 8.5), (10.5, 12.5))])])
    if case.startswith("seg"):
        path /= "seg.dcm"
    if case.startswith("structure"):
        path /= "rs.dcm"
    if case == "text":
        path = tmp_path / "mask.txt"
        path.write_text("no mask")
    with pytest.raises(ValueError, match=sentence):
        named_masks(path, scan)


@pytest.mark.parametrize("kind", ["segmentation", "structure set"])
def test_a_mask_of_the_other_kernel_is_taken_and_said_so(tmp_path, scan, labels, write_dicom, caplog, kind):
    """Also out of a folder, unless there is one of the series itself."""
    other = read_scan(write_dicom(tmp_path / "other", np.zeros(SHAPE, dtype=np.int16), kernel="L", spacing_mm=0.75))
    rois = [("A", [rectangle(other, 2, (3.5, 8.5), (10.5, 12.5))])]
    folder = tmp_path / "masks"
    path = write_segmentation(other, labels, path=folder / "seg.dcm", algorithm="test")
    if kind == "structure set":
        path.unlink()
        path = write_structure_set(folder / "rs.dcm", other, rois)
    for mask in (path, folder):
        caplog.clear()
        assert list(named_masks(mask, scan)) == (["A"] if kind == "structure set" else ["lesion 1", "lesion 3"])
        assert f"{path} was drawn on another series in the same frame of reference" in caplog.text
    caplog.clear()
    write_structure_set(folder / "own.dcm", scan, rois)
    assert list(named_masks(folder, scan)) == ["A"]
    assert caplog.text == ""


def test_a_region_with_empty_slices_in_between_is_named(tmp_path, scan, caplog):
    """Drawn on every second slice. Two lesions at different places are none."""
    square, beside = (rectangle(scan, z, (3.5, 8.5), (10.5, 12.5)) for z in (0, 4)), rectangle(scan, 4, (3.5, 8.5), (0.5, 2.5))
    rois = [
        ("GTV", [*square, rectangle(scan, 2, (3.5, 8.5), (10.5, 12.5))]),
        ("Two", [rectangle(scan, 0, (3, 9), (9, 12)), beside]),
    ]
    assert list(named_masks(write_structure_set(tmp_path / "rs.dcm", scan, rois), scan)) == ["GTV", "Two"]
    assert "'GTV' is empty on 2 of the 5 slices from its first to its last" in caplog.text
    assert "'Two'" not in caplog.text


def test_a_mask_may_have_more_than_255_labels(tmp_path, scan):
    labels = np.zeros(SHAPE, dtype=np.uint16)
    labels[2, :18, :18] = np.arange(1, 325).reshape(18, 18)
    found = named_masks(save_labels(labels, tmp_path / "mask.nii.gz", scan), scan)
    assert list(found) == [f"label_{n}" for n in range(1, 325)]
    assert np.array_equal(found["label_300"], labels == 300)


def test_separate_parts_beyond_255_are_numbered(pairs):
    manifest, folder = pairs
    mask = np.zeros(SHAPE)
    mask[:, ::2, ::2] = np.arange(SHAPE[0])[:, None, None] % 2 == 0  # 3 × 12 × 10 voxels that do not touch
    save_volume(mask, folder / "mask.nii.gz")
    labels = read_labels(folder / "mask.nii.gz", manifest, pairs=manifest[manifest["role"] == "source"].sort_values("z_mm"))
    assert sorted(np.unique(labels)) == list(range(361))


def test_segments_that_overlap_are_no_label_image(dicom_pairs, tmp_path):
    """Where regions are measured by name they may: see the tests of segmentations."""
    manifest, folder = dicom_pairs
    scan = read_scan(folder)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2, 3:7, 3:7], labels[3, 3:7, 3:7] = 1, 2
    path = write_segmentation(scan, labels, path=tmp_path / "seg.dcm", algorithm="test")
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence = dataset.PerFrameFunctionalGroupsSequence[
        0
    ].PlanePositionSequence
    dataset.save_as(path)
    with pytest.raises(ValueError, match="the segments 'lesion 1' and 'lesion 2' overlap, and here one image"):
        read_labels(path, manifest, pairs=manifest[manifest["role"] == "source"])


def test_a_segmentation_of_a_third_kernel_fits_the_pairs(dicom_pairs, write_dicom, labels, tmp_path, caplog):
    manifest, _ = dicom_pairs
    third = read_scan(write_dicom(tmp_path / "third", np.zeros(SHAPE), kernel="D", spacing_mm=0.75))
    thin = read_scan(write_dicom(tmp_path / "thin", np.zeros(SHAPE), z_mm=(0.5, 1.5, 2.5, 3.5, 4.5), spacing_mm=0.75))
    write_segmentation(third, labels, path=tmp_path / "masks" / "seg.dcm", algorithm="test")
    write_segmentation(thin, labels, path=tmp_path / "masks" / "thin.dcm", algorithm="test")
    sources = manifest[manifest["role"] == "source"].sort_values("z_mm")
    assert np.array_equal(read_labels(tmp_path / "masks", manifest, pairs=sources), labels)
    assert "thin.dcm lies on another grid than the slices of the series: it is passed over" in caplog.text
    assert "was drawn on another series in the same frame of reference" in caplog.text


def test_a_dicom_mask_needs_a_series(tmp_path):
    scan = read_scan(save_volume(np.zeros(SHAPE), tmp_path / "scan.mha"))
    with pytest.raises(ValueError, match="the mask of a volume file is a volume file"):
        named_masks(tmp_path, scan)


@pytest.mark.parametrize(
    ("series", "mask"),
    [
        ("lung-pet-ct-dx-a0001/soft_B", "lung-pet-ct-dx-a0001/tumour_mask.nii.gz"),
        *[(f"lidc-small/LIDC-IDRI-000{n}", f"lidc-small/LIDC-IDRI-000{n}/mask_consensus2.nii.gz") for n in (1, 2, 3)],
    ],
)
def test_real_masks_lie_on_their_series(real_data, series, mask):
    assert list(named_masks(real_data / mask, read_scan(real_data / series))) == ["label_1"]
