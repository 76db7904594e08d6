"""The slices and pairs of a manifest that a phase trains on, as columns: handed on to other processes without being copied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import pandas as pd
import pyarrow as pa
from typing_extensions import override

from ltdiff.data.manifest import REPEAT, SCHEMA

Item = Mapping[str, Mapping[Any, Any]]
"""Column name → manifest row: {"image": row}, {"source": row, "target": row}, or {"target": row} where the source is to be made;
all rows of an item share their geometry."""
_UNIQUE = ("path", "pair_id")
_COLUMNS = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.string()))
        if pa.types.is_string(field.type) and field.name not in _UNIQUE
        else field
        for field in SCHEMA
    ]
)


@dataclass(frozen=True)
class SliceItems(Sequence[Item]):
    """Items that are made when they are asked for. Each of the `parts` has tables of one length by column name."""

    parts: tuple[dict[str, pa.Table], ...]

    @override
    def __len__(self) -> int:
        return sum(_length(part) for part in self.parts)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    @override
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index if index >= 0 else index + len(self)
        for part in self.parts:
            if 0 <= place < _length(part):
                return {name: rows.slice(place, 1).to_pylist()[0] for name, rows in part.items()}
            place -= _length(part)
        raise IndexError(index)


def _length(part: Mapping[str, pa.Table]) -> int:
    return len(next(iter(part.values())))


def make_items(manifest: pd.DataFrame, *, split: str, pairs: bool) -> SliceItems:
    """What a phase trains on: every slice but repeats once as `image`; or every pair as `source` and `target`, and every target
    without a pair as `target` alone.

    Raises:
        ValueError: the split holds none.
    """
    if pairs:
        sources, targets = paired_rows(manifest, split=split)
        alone = targets_without_pair(manifest, split=split)
        items = SliceItems(({"source": _table(sources), "target": _table(targets)}, {"target": _table(alone)}))
    else:
        items = SliceItems(({"image": _table(_images(manifest, split=split))},))
    if not items:
        raise ValueError(f"the manifest has no {'pair' if pairs else 'slice'} in its split {split!r}")
    return items


def _images(manifest: pd.DataFrame, *, split: str) -> pd.DataFrame:
    rows = manifest[(manifest["split"] == split) & (manifest["role"] != REPEAT)]
    return rows.drop_duplicates(["path", "slice_index"])


def paired_rows(manifest: pd.DataFrame, *, split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sources and targets of the pairs of a split, row by row."""
    paired = manifest[(manifest["split"] == split) & manifest["pair_id"].notna()]
    sources, targets = (paired[paired["role"] == role] for role in ("source", "target"))
    partners = targets.set_index("pair_id", drop=False).loc[sources["pair_id"]]
    return sources.reset_index(drop=True), partners.reset_index(drop=True)


def targets_without_pair(manifest: pd.DataFrame, *, split: str) -> pd.DataFrame:
    """Targets of a split whose sources have to be made, each slice once."""
    rows = manifest[(manifest["split"] == split) & is_target_without_pair(manifest)]
    return rows.drop_duplicates(["path", "slice_index"]).reset_index(drop=True)


def is_target_without_pair(rows: pd.DataFrame) -> pd.Series:
    """Which rows are targets whose source has to be made."""
    return rows["pair_id"].isna() & (rows["role"] == "target")


def _table(rows: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(rows, schema=_COLUMNS, preserve_index=False).replace_schema_metadata()
