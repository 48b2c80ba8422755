#!/usr/bin/env bash
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# Train with several processes: bash tools/dist_train.sh CONFIG PROCESSES [args]
# One process a GPU; on a machine without GPUs they share the CPU through gloo.
#
#   NNODES NODE_RANK MASTER_ADDR PORT   several machines (defaults: 1 0
#                                       127.0.0.1 29500); on one machine a
#                                       free port is found unless PORT is set
#   PYTHON                              the Python to use (default: python)
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: bash $0 CONFIG PROCESSES [arguments of train.py]" >&2
  exit 2
fi
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MEETING=(--standalone --local_addr=127.0.0.1)
if [ -n "${PORT:-}" ] || [ "${NNODES:-1}" != 1 ]; then
  MEETING=(--node_rank="${NODE_RANK:-0}"
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi
PYTHONPATH="$TOOLS/..${PYTHONPATH:+:$PYTHONPATH}" \
  exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" "${MEETING[@]}" --nproc_per_node="$2" \
  "$TOOLS/train.py" "$1" --launcher pytorch "${@:3}"
