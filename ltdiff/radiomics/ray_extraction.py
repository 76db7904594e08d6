"""Features of thousands of regions on Ray: Ray Data hands them to actors, what is done is kept, the same call does the rest.

Regions are taken some at a time, as many as keep the actors busy for a while beside their start, so that neither the driver nor
the object store holds those of all series. Stages, each time: `range` (the numbers of the regions not done yet; they lie in the
object store) → `_Extractor` (map_batches; an actor for each of `num_workers`, with a process of its own that may crash) → values,
kept in `folder` as they come.

A region's key is the hash of its voxels, mask and spacing, so what is kept holds for these voxels alone.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import ray
import ray.data
from numpy.typing import NDArray

from ltdiff.radiomics.feature_sets import FeatureSet
from ltdiff.radiomics.parallel import CHUNK_SIZE, ExtractorPool, RegionCut, in_chunks
from ltdiff.system.atomic_files import replace_file
from ltdiff.system.progress import progress
from ltdiff.system.ray_cluster import quiet_ray_data, ray_session

logger = logging.getLogger(__name__)

KEY = "region_sha256"
REGIONS_PER_WORKER = 16 * CHUNK_SIZE
"""That are in memory at a time: some 15 s of four classes of features; whole slices of 512² are 340 MB."""


def extract_on_ray(
    regions: Iterable[RegionCut], feature_set: FeatureSet, *, folder: Path, num_workers: int
) -> Iterator[dict[str, float]]:
    """Features of every region, in their order; NaN for one that crashes its process. `folder` keeps what is done.

    Raises:
        ValueError: what the extraction refuses; the Ray cluster is too small.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = _read_done(folder, feature_set)
    num_regions = num_before = 0
    is_open = False
    with ExitStack() as session:
        for part in in_chunks(regions, REGIONS_PER_WORKER * num_workers):
            keys = [_key(region, feature_set) for region in part]
            todo = {key: region for key, region in zip(keys, part, strict=True) if key not in done}
            num_regions, num_before = num_regions + len(part), num_before + sum(key not in todo for key in keys)
            if todo:
                if not is_open:
                    num_needed = min(num_workers, -(-len(part) // CHUNK_SIZE))  # all, or there is no other part
                    session.enter_context(ray_session(num_cpus=num_needed + 1))
                    is_open = True
                done |= _extract(todo, feature_set, folder=folder, num_workers=min(num_workers, -(-len(todo) // CHUNK_SIZE)))
            yield from (dict(zip(feature_set.features, done[key].tolist(), strict=True)) for key in keys)
    if num_before:
        logger.info("%d of %d regions were done before", num_before, num_regions)


class _Extractor:
    """An actor: numbers of regions (B,) → their features' values (B, F)."""

    def __init__(self, regions: ray.ObjectRef[list[RegionCut]], feature_set: FeatureSet) -> None:
        self.regions = ray.get(regions)
        self.pool = ExtractorPool(feature_set, num_workers=1)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        rows = list(self.pool.extract([self.regions[i] for i in batch["id"]]))
        return {"id": batch["id"], "values": np.array([list(row.values()) for row in rows])}


def _extract(
    todo: dict[str, RegionCut], feature_set: FeatureSet, *, folder: Path, num_workers: int
) -> dict[str, NDArray[np.float64]]:
    keys = np.array(list(todo))
    found: dict[str, NDArray[np.float64]] = {}
    with quiet_ray_data(), progress(name="features", unit="region", total=len(todo)) as bar:
        numbers = ray.data.range(len(todo), override_num_blocks=-(-len(todo) // CHUNK_SIZE))
        batches = numbers.map_batches(
            _Extractor,
            fn_constructor_args=(ray.put(list(todo.values())), feature_set),
            batch_size=CHUNK_SIZE,
            compute=ray.data.ActorPoolStrategy(size=num_workers),
        ).iter_batches(batch_size=CHUNK_SIZE)
        for batch in batches:
            of_batch = keys[batch["id"]]
            _store(of_batch, batch["values"], feature_set, folder)
            found |= dict(zip(of_batch.tolist(), batch["values"], strict=True))
            bar.update(len(of_batch))
    return found


def _key(region: RegionCut, feature_set: FeatureSet) -> str:
    parts = (feature_set.name, feature_set.extractor, feature_set.extractor_version, feature_set.discretisation)
    sha = hashlib.sha256(repr(parts).encode())
    for array in (region.hu, region.mask, np.array(region.spacing_mm)):
        sha.update(f"{array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _read_done(folder: Path, feature_set: FeatureSet) -> dict[str, NDArray[np.float64]]:
    done: dict[str, NDArray[np.float64]] = {}
    for path in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(path).set_index(KEY)
        if list(table.columns) == list(feature_set.features):
            done |= dict(zip(table.index, table.to_numpy(), strict=True))
    return done


def _store(keys: NDArray[np.str_], values: NDArray[np.float64], feature_set: FeatureSet, folder: Path) -> None:
    """Keep some regions in a file of their own, whole or not at all; one that crashed is tried again next time."""
    kept = ~np.isnan(values).all(axis=1)
    if not kept.any():
        return
    name = hashlib.sha256("".join(keys[kept]).encode()).hexdigest()[:16]
    table = pd.DataFrame(values[kept], columns=list(feature_set.features))
    table.insert(0, KEY, keys[kept])
    replace_file(folder / f"{name}.parquet", lambda temporary: table.to_parquet(temporary, index=False))
