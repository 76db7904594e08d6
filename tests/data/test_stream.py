"""The training stream: samples are shared out without overlap or gap, and Ray Data gives what the loader gives."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import make_rows, save_volume

from ltdiff.data.batch_loader import make_batch_loader
from ltdiff.data.patches import PatchLoader
from ltdiff.data.slice_items import make_items
from ltdiff.data.stream import WorkerShard, make_stream
from ltdiff.system.ray_cluster import ray_session

pytestmark = pytest.mark.ray


@given(
    world_size=st.sampled_from([1, 2, 4]),
    batch_size=st.integers(1, 5),
    first_step=st.integers(0, 20),
    num_steps=st.integers(1, 6),
)
def test_shares_of_all_workers_make_up_the_global_batches(world_size, batch_size, first_step, num_steps):
    shards = [WorkerShard(batch_size, rank, world_size, first_step) for rank in range(world_size)]
    samples = [shard.samples(np.arange(num_steps * batch_size)).reshape(num_steps, batch_size) for shard in shards]
    global_batches = np.concatenate(samples, axis=1)
    first = first_step * batch_size * world_size
    np.testing.assert_array_equal(global_batches.ravel(), first + np.arange(global_batches.size))


def test_any_number_of_workers_sees_the_same_global_batch():
    def batch(world_size, step):
        shards = (WorkerShard(8 // world_size, rank, world_size, first_step=step) for rank in range(world_size))
        return sorted(np.concatenate([shard.samples(np.arange(8 // world_size)) for shard in shards]))

    assert all(batch(1, step) == batch(2, step) == batch(4, step) for step in range(5))


@pytest.fixture(scope="module")
def _ray():
    with ray_session(num_cpus=2):
        yield


@pytest.mark.usefixtures("_ray")
def test_ray_data_gives_what_the_loader_gives_in_order(tmp_path):
    path = save_volume(np.random.default_rng(0).normal(size=(5, 100, 120)), tmp_path / "a.nrrd")
    rows = [make_rows(path, shape=(5, 100, 120), role=role) for role in ("source", "target")]
    items = make_items(pd.concat(rows), split="train", pairs=True)
    loader = PatchLoader(items, 16, 0, lambda hu, spacing_mm: hu + 7)
    shard = WorkerShard(batch_size=5, rank=1, world_size=2, first_step=3)
    stream = make_stream(loader, shard, num_samples=600)  # three blocks
    batches = list(stream.iter_torch_batches(batch_size=5, prefetch_batches=2))
    assert len(batches) == 120
    assert "ReadRange->MapBatches" in stream.stats()  # one stage: else all numbers of a long training are read before a slice is
    expected = loader({"id": shard.samples(np.arange(600))})
    for name in ("source", "target"):
        values = torch.cat([batch[name] for batch in batches])
        assert values.dtype == torch.int16
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.usefixtures("_ray")
def test_protocols_that_are_drawn_independently_come_through_ray_data_as_well(tmp_path):
    path = save_volume(np.random.default_rng(0).normal(size=(5, 100, 120)), tmp_path / "a.nrrd")
    rows = pd.concat([make_rows(path, shape=(5, 100, 120), role=role) for role in ("source", "target")])
    loader = make_batch_loader(
        rows, draw="sides", split="train", patch_size=16, seed=0, match_kernel=lambda hu, spacing_mm: hu + 7
    )
    shard = WorkerShard(batch_size=5, first_step=3)
    batches = list(make_stream(loader, shard, num_samples=300).iter_torch_batches(batch_size=5))
    expected = loader({"id": shard.samples(np.arange(300))})
    for name in ("source", "target"):
        np.testing.assert_array_equal(torch.cat([batch[name] for batch in batches]), expected[name])


def test_the_actor_that_runs_a_stream_imports_little():
    code = "import sys, ltdiff.data.stream; sys.exit(bool({'torch', 'pydicom', 'SimpleITK'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
