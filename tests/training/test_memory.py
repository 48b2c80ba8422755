# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Freed memory stays with the process where the C library allows it."""

import subprocess
import sys

from hkd_mm.engine import memory

# the file alone is run: what is beside it takes seconds to import
PROGRAM = """
import resource, runpy, sys
import numpy as np
tune_malloc = runpy.run_path(sys.argv[1])['tune_malloc']
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.ones(1 << 23)  # 64 MiB, freed at once
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
returned = faults()
known = tune_malloc()
faults()
print(known, returned, faults())
"""


def test_a_freed_block_is_used_again_without_page_faults():
    known, returned, kept = subprocess.run(
        [sys.executable, '-c', PROGRAM, memory.__file__],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[-3:]
    assert known == 'False' or int(kept) < int(returned) / 10
