"""The C library's memory: what is freed is used again, and not cleared anew by the kernel."""

import ctypes
import subprocess
import sys

import pytest

NUM_BLOCKS, BLOCK_BYTES, PAGE_BYTES = 100, 64 * 2**20, 4096
COUNT_FAULTS = f"""
import resource, torch
from ltdiff.memory import keep_freed_memory
if {{keep}}:
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones({BLOCK_BYTES}, dtype=torch.uint8)
before = faults()
for _ in range({NUM_BLOCKS}):
    torch.ones({BLOCK_BYTES}, dtype=torch.uint8)
print(faults() - before)
"""


def count_faults(*, keep: bool) -> int:
    command = [sys.executable, "-c", COUNT_FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_blocks_that_are_needed_again_and_again_are_not_cleared_each_time():
    faults = count_faults(keep=False)
    if faults < NUM_BLOCKS * BLOCK_BYTES / PAGE_BYTES / 2:
        pytest.skip("this process's malloc keeps large blocks anyway, or pages are huge")
    assert count_faults(keep=True) < faults / 5
