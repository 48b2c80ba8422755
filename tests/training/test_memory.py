# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
"""Freed memory stays with the process where the C library allows it."""

import subprocess
import sys

PROGRAM = """
import resource, sys
import numpy as np
from hkd_mm.engine.memory import tune_malloc
known = tune_malloc() if sys.argv[1] == 'kept' else None
def use():
    for _ in range(4):
        np.ones(1 << 23)  # 64 MiB, freed at once
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(known, faults)
"""


def measure(word):
    known, faults = subprocess.run(
        [sys.executable, '-c', PROGRAM, word],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[-2:]
    return known, int(faults)


def test_a_freed_block_is_used_again_without_page_faults():
    known, kept = measure('kept')
    returned = measure('returned')[1]
    assert known == 'False' or kept < returned / 10
