"""The manifest of pairs and of other series, and the table of their kernels."""

import hashlib
from collections.abc import Sequence

import pandas as pd

from ltdiff.data.manifest import SCHEMA
from ltdiff.data.series_pair import SeriesPair
from ltdiff.dicom.scan import Scan


def kernel_table(pairs: Sequence[SeriesPair]) -> pd.DataFrame:
    """Source kernels (rows) × target kernels (columns): numbers of acquisitions and of slice pairs."""
    counts = pd.DataFrame(
        [(pair.source.kernel, pair.target.kernel, 1, pair.source.num_slices) for pair in pairs],
        columns=["source kernel", "target kernel", "acquisitions", "slices"],
    )
    return counts.pivot_table(
        index="source kernel", columns="target kernel", values=["acquisitions", "slices"], aggfunc="sum", fill_value=0
    )


def build_manifest(
    pairs: Sequence[SeriesPair], others: Sequence[Scan] = (), *, sources: Sequence[Scan] = (), targets: Sequence[Scan] = ()
) -> pd.DataFrame:
    """The manifest of the pairs, and of series without pairs by their role, all of it "train" until it is split."""
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for pair in pairs:
        uids = f"{pair.source.series_instance_uid}\n{pair.target.series_instance_uid}"
        prefix = hashlib.sha256(uids.encode()).hexdigest()[:12]
        pair_ids = [f"{prefix}-{index:04d}" for index in range(pair.source.num_slices)]
        add_rows(columns, pair.source, "source", pair_ids)
        add_rows(columns, pair.target, "target", pair_ids)
    for role, scans in (("source", sources), ("target", targets), ("other", others)):
        for scan in scans:
            add_rows(columns, scan, role, [None] * scan.num_slices)
    return pd.DataFrame(columns).astype({"pair_id": object, "slice_thickness_mm": float})


def add_rows(columns: dict[str, list[object]], scan: Scan, role: str, pair_ids: Sequence[str | None]) -> None:
    """Add a scan's slices to the columns of a manifest."""
    alike = {
        "series_uid": scan.series_instance_uid,
        "patient": scan.patient_key,
        "role": role,
        "kernel": scan.kernel,
        "manufacturer": scan.manufacturer,
        "spacing_y_mm": scan.spacing_mm[0],
        "spacing_x_mm": scan.spacing_mm[1],
        "slice_thickness_mm": scan.slice_thickness_mm,
        "rows": scan.rows,
        "columns": scan.columns,
        "split": "train",
    }
    for header, pair_id in zip(scan.slices, pair_ids, strict=True):
        columns["path"].append(str(header.path.absolute()))  # workers may run in another directory
        columns["slice_index"].append(header.index)
        columns["pair_id"].append(pair_id)
        columns["z_mm"].append(header.z_mm)
    for name, value in alike.items():
        columns[name] += [value] * scan.num_slices
