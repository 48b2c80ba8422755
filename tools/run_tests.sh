#!/usr/bin/env bash
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# Makes the environment, installs hkd_mm and runs the whole test suite.
# Arguments go to pytest: bash tools/run_tests.sh -k losses -x
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
hkd_env

cd "$HKD_ROOT"
# One thread a worker: two cores, two workers. No GPU is needed.
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg
exec "$HKD_PY" -m pytest -n 2 --durations=20 "$@"
