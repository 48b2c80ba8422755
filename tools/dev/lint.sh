#!/usr/bin/env bash
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# Style, format and the floors of the package (pyproject.toml).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../_env.sh"
hkd_env

cd "$HKD_ROOT"
"$HKD_PY" -m ruff check --no-cache .
"$HKD_PY" -m ruff format --no-cache --check .
PYTHONPATH=. "$(dirname "$HKD_PY")/lint-imports" --no-logo --no-cache
