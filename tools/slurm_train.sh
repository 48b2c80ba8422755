#!/usr/bin/env bash
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# Train on Slurm:
#   bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [args]
#
#   GPUS GPUS_PER_NODE CPUS_PER_TASK   size of the job (defaults: 8 8 5);
#                                      GPUS=0 TASKS=N trains on CPUs
#   SRUN_ARGS                          more arguments of srun
#   PORT                               of the meeting point (default 29500)
#   PYTHON                             the Python to use (default: python)
set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: bash $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments of train.py]" >&2
  exit 2
fi
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
if [ "$GPUS" -lt "$GPUS_PER_NODE" ]; then GPUS_PER_NODE=$GPUS; fi
SIZE=(--ntasks="${TASKS:-1}")
if [ "$GPUS" -gt 0 ]; then
  SIZE=(--gres="gpu:$GPUS_PER_NODE" --ntasks="$GPUS"
    --ntasks-per-node="$GPUS_PER_NODE")
fi
# shellcheck disable=SC2086  # SRUN_ARGS holds several words
PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" MASTER_PORT=${PORT:-29500} \
  exec srun -p "$1" --job-name="$2" "${SIZE[@]}" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  "${PYTHON:-python}" -u "$TOOLS/train.py" "$3" --work-dir="$4" \
  --launcher slurm "${@:5}"
