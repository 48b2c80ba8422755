#!/usr/bin/env bash
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# Smoke test on OpenMMLab's own last releases, which are frozen: trains the
# demo pair for one epoch, resumes it for a second one and tests it, in an
# environment of its own. Not part of the ordinary suite.
#
#   HKD_VENV    where the environment goes (default: a temporary folder)
#   HKD_PYTHON  the Python that makes it (3.10 - 3.12)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
HKD_VENV=${HKD_VENV:-$work/venv}
source "$(dirname "${BASH_SOURCE[0]}")/../_env.sh"

python=$(_hkd_find_python)
"$python" -m venv "$HKD_VENV"
HKD_PY=$HKD_VENV/bin/python

# mmcv 2.1 predates numpy 2: ColorJitter raises an OverflowError there.
printf 'numpy<2\nopencv-python<4.12\n' >"$work/old.txt"
export PIP_CONSTRAINT=$work/old.txt
pip() { "$HKD_PY" -m pip --disable-pip-version-check "$@" </dev/null; }
pip install --quiet torch==2.11.0 torchvision==0.26.0 mmengine==0.10.7 \
  mmcv-lite==2.1.0 mmpretrain==1.2.0 mmrazor==1.0.0 'timm<2' \
  ImageHash joblib ordered-set packaging scikit-learn
pip install --quiet --no-deps --editable "$HKD_ROOT"
pip list 2>/dev/null | grep -iE '^(mm|torch|numpy|timm|hkd)'

cd "$work" # work_dirs must not land in the checkout
export OMP_NUM_THREADS=1
config=$HKD_ROOT/configs/demo/hybrid_resnet18_mbv2_demo.py
options=(data_root=images max_epochs=1)
run() { "$HKD_PY" "$HKD_ROOT/tools/$1" "${@:2}" </dev/null; }
run data/make_demo_images.py --out images --num 120
run train.py "$config" --work-dir run/hybrid --cfg-options "${options[@]}"
run train.py "$config" --work-dir run/hybrid --resume \
  --cfg-options "${options[@]}" max_epochs=2 \
  model.teacher_ckpt="$(echo run/resnet18_demo/best_*.pth)" | tee resumed.log
grep -q 'resumed from .*epoch_1.pth' resumed.log
grep -q 'Done: 2 epochs' resumed.log
run test.py "$config" run/hybrid/best_*.pth --work-dir run/test \
  --cfg-options "${options[@]}"
run test.py "$(dirname "$config")/mbv2_demo.py" run/hybrid/student.pth \
  --work-dir run/test --cfg-options "${options[@]}"
echo 'hkd_mm trains, resumes and tests on mmengine 0.10.7, mmcv-lite 2.1.0,' \
  'mmpretrain 1.2.0, mmrazor 1.0.0'
