"""Which slices belong together, and which form a regular grid: headers of a real slice at positions of all kinds."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_files import DERIVATION, edit, identity, phantom_hu, with_sources
from hypothesis import given, settings
from hypothesis import strategies as st

from ltdiff.dicom.dicom_file import BadFile
from ltdiff.dicom.grid import check_grid, irregularity
from ltdiff.dicom.header import read_header
from ltdiff.dicom.raw_data import KEYWORDS
from ltdiff.dicom.series import find_series
from ltdiff.dicom.write_derived import write_derived_series
from ltdiff.dicom.write_original import write_ct_series

quick = settings(max_examples=40)
steps = st.floats(0.05, 10)
counts = st.integers(4, 30)


@pytest.fixture(scope="module")
def header(tmp_path_factory):
    """Of one axial slice."""
    folder = write_ct_series(
        phantom_hu()[:1], out_dir=tmp_path_factory.mktemp("grid") / "one", identity=identity(), spacing_mm=(2.5, 0.8, 0.7)
    )
    return read_header(next(folder.iterdir()))


def at(header, positions_mm, *, name="a", **changes):
    """One slice at each position (N, 3), each with its own UID."""
    return [
        replace(
            header,
            path=Path(f"{name}{index:03d}.dcm"),
            sop_instance_uid=f"{header.sop_instance_uid}.{sum(map(ord, name))}.{index}",
            geometry=replace(header.geometry, position_mm=tuple(map(float, position))),
            **changes,
        )
        for index, position in enumerate(positions_mm)
    ]


def acquired(number):
    """What a header says of its raw data: the number of its acquisition."""
    return tuple(str(number) if keyword == "AcquisitionNumber" else "" for keyword in KEYWORDS)


def along(z_mm, *, tilt=(0.0, 0.0)):
    """Positions (N, 3) at these z, and so much per mm of z beside them."""
    z_mm = np.asarray(z_mm, dtype=float)
    return np.stack([tilt[0] * z_mm - 20, tilt[1] * z_mm - 30, z_mm], axis=1)


def even(num_slices, step_mm, start_mm=-80.0, *, share=0.1):
    """Ascending z, rounded to a decimal that is at most this share of a step."""
    return np.round(start_mm + step_mm * np.arange(num_slices), max(1, int(np.ceil(-np.log10(share * step_mm)))))


@quick
@given(counts, steps, st.randoms(), st.sampled_from([0.1, 0.2]))
def test_even_steps_are_regular_whatever_they_are_and_however_rounded(header, num_slices, step_mm, random, share):
    slices = at(header, along(even(num_slices, step_mm, share=share)))
    random.shuffle(slices)
    ordered = check_grid(slices)
    assert [one.path.name for one in ordered] == sorted(one.path.name for one in slices)
    assert irregularity(ordered) == ""


@quick
@given(counts, steps, st.data())
def test_a_missing_slice_is_a_gap_however_fine_the_steps(header, num_slices, step_mm, data):
    z_mm = np.delete(even(num_slices, step_mm), data.draw(st.integers(1, num_slices - 2)))
    with pytest.raises(BadFile, match="has gaps"):
        check_grid(at(header, along(z_mm)))


@quick
@given(st.integers(9, 30), steps, st.data())
def test_two_slices_that_are_missing_are_two_gaps(header, num_slices, step_mm, data):
    first = data.draw(st.integers(2, num_slices - 5))
    z_mm = np.delete(even(num_slices, step_mm), [first, first + 2])
    with pytest.raises(BadFile, match="has gaps"):
        check_grid(at(header, along(z_mm)))


@quick
@given(counts, steps, st.floats(1, 30), st.floats(0, 2 * np.pi))
def test_a_tilted_gantry_is_read_and_named(header, num_slices, step_mm, angle, around):
    """Unless the slices leave their column by less than half a pixel."""
    tilt = np.tan(np.radians(angle)) * np.array([np.cos(around), np.sin(around)])
    z_mm = even(num_slices, step_mm)
    named = irregularity(check_grid(at(header, along(z_mm, tilt=tilt))))
    beside_mm = np.tan(np.radians(angle)) * (z_mm[-1] - z_mm[0])
    if beside_mm < 0.19:
        assert named == ""
    elif beside_mm > 0.21:
        assert float(named.removeprefix("its gantry was tilted by ").removesuffix("°")) == pytest.approx(angle, abs=0.06)


@quick
@given(st.lists(st.tuples(st.integers(3, 8), st.floats(0.5, 10)), min_size=2, max_size=3))
def test_blocks_of_other_distances_are_read_and_named(header, blocks):
    """As a head is scanned: finely at its base, coarsely above."""
    distances_mm = [step_mm for num, step_mm in blocks for _ in range(num)]
    named = irregularity(check_grid(at(header, along(np.cumsum([0, *distances_mm])))))
    if max(distances_mm) - min(distances_mm) > 1:
        said = re.fullmatch(r"its slices are between (\S+) and (\S+) mm apart", named)
        # to two digits, of differences of places: one of 0.975 mm may be 0.97 or 0.98
        assert [float(one) for one in said.groups()] == pytest.approx([min(distances_mm), max(distances_mm)], abs=0.0051)


@quick
@given(steps, steps, st.floats(0, 1), st.sampled_from(["thickness", "acquisition"]), st.booleans())
def test_two_reconstructions_in_each_others_gaps_are_refused(header, step_mm, other_mm, offset, kind, is_first):
    """Whatever their steps: at the same places too, and the finer with the coarser between."""
    small, large = sorted([step_mm, other_mm])
    changes = {"slice_thickness_mm": 1.25} if kind == "thickness" else {"raw_data": acquired(7)}
    count = int(4 * large / small) + 4
    fine = at(header, along(small * np.arange(count)), name="a" if is_first else "b")
    coarse = at(header, along(offset * small + large * np.arange(4)), name="b" if is_first else "a", **changes)
    with pytest.raises(BadFile, match=r"mixes .*, which alternate from slice to slice: z = "):
        check_grid([*fine, *coarse])


def test_blocks_of_two_thicknesses_are_no_regular_grid(header):
    z_mm = even(12, 2.5)
    slices = [*at(header, along(z_mm[:6])), *at(header, along(z_mm[6:]), name="b", slice_thickness_mm=5.0)]
    assert irregularity(check_grid(slices)) == "its slices are between 2.5 and 5 mm thick"


def test_a_table_that_stops_gives_each_slice_its_own_acquisition(header):
    numbers = [index // 2 for index in range(10)]
    slices = [
        replace(one, raw_data=acquired(number)) for one, number in zip(at(header, along(even(10, 5.0))), numbers, strict=True)
    ]
    assert irregularity(check_grid(slices)) == ""


@quick
@given(st.floats(-1, 1), st.floats(-1, 1), st.booleans())
def test_pixel_spacings_that_differ_in_their_last_digit_are_one(header, by_y, by_x, is_far):
    spacing_mm = tuple(mm + by * 9e-5 + (0.001 if is_far else 0) for mm, by in zip((0.8, 0.7), (by_y, by_x), strict=True))
    slices = at(header, along(even(5, 2.5)))
    slices[2] = replace(slices[2], geometry=replace(slices[2].geometry, spacing_mm=spacing_mm))
    if is_far:
        with pytest.raises(BadFile, match=r"mixes PixelSpacings: .* \(0\.80.*\\0\.70.* and 0\.8\\0\.7\)"):
            check_grid(slices)
    else:
        assert irregularity(check_grid(slices)) == ""


@quick
@given(st.integers(5, 20), steps, st.floats(1, 50), st.data())
def test_a_slice_beside_the_others_is_refused(header, num_slices, step_mm, by_mm, data):
    positions = along(even(num_slices, step_mm))
    positions[data.draw(st.integers(1, num_slices - 2)), data.draw(st.integers(0, 1))] += by_mm
    with pytest.raises(BadFile, match=rf"on no straight line, up to {by_mm:.2f} mm beside the first slice"):
        check_grid(at(header, positions))


@pytest.fixture(params=["tilted", "uneven"])
def irregular(request, write_series):
    folder = write_series()
    for index, path in enumerate(sorted(folder.iterdir())):
        z_mm = -100 + 2.5 * index
        position = [-10, -20 + 0.5 * index, z_mm] if request.param == "tilted" else [-10, -20, z_mm + max(0, index - 2) * 1.25]
        edit(path, ImagePositionPatient=position)
    return folder


def test_a_series_without_a_regular_grid_is_standardized_and_is_no_volume(irregular, tmp_path):
    (series,), issues = find_series(irregular)
    assert issues == []
    with pytest.raises(ValueError, match=r"slice_0001\.dcm forms no regular grid in space: its (gantry|slices)"):
        series.read_volume()
    pairs = with_sources(series, phantom_hu())
    out = write_derived_series(series, pairs, out_dir=tmp_path / "out", derivation=DERIVATION)
    (made,), issues = find_series(out)
    assert issues == []
    assert [one.position_mm for one in made.slices] == [one.position_mm for one in series.slices]
    assert made.irregularity == series.irregularity


def test_each_slice_reaches_half_way_to_its_neighbours(write_series):
    folder = write_series()
    for path, z_mm in zip(sorted(folder.iterdir()), (0, 2, 4, 8, 12), strict=True):
        edit(path, ImagePositionPatient=[0, 0, z_mm])
    (series,), _ = find_series(folder)
    assert series.slice_depths_mm.tolist() == [2, 2, 3, 4, 4]
