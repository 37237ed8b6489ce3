import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import torch
from seg.memory import keep_free_memory
if sys.argv[1] == "kept":
    keep_free_memory()
for _ in range(16):  # at first small pieces, which malloc keeps for each thread, lie between the large ones
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(40 * 2**20, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
@pytest.mark.parametrize("kept", [True, False])
def test_freed_memory_is_reused_without_page_faults(kept):
    done = subprocess.run([sys.executable, "-c", CODE, "kept" if kept else ""], capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 100) == kept, done.stdout


RELEASED = """
import re
import torch
from seg.memory import keep_free_memory, release_free_memory
def used():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 2**10
keep_free_memory()
blocks = [torch.ones(2**20, dtype=torch.uint8) for _ in range(200)]
del blocks[:-1]  # what is left holds the end of the heap
kept = used()
release_free_memory()
print(round(kept - used()))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_kept_memory_is_released_below_blocks_in_use():
    done = subprocess.run([sys.executable, "-c", RELEASED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 150, done.stdout  # MiB
