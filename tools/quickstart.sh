#!/usr/bin/env bash
# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# From a clone to a distilled student in minutes, on a CPU and without data:
# draws lesion-like images, trains a teacher, a student alone and a student
# with Hybrid KD, tests all three and prints them side by side.
# Run again, it takes up whatever is finished and goes on from there.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
hkd_env

cd "$HKD_ROOT"
out=work_dirs/quickstart
images=$out/images
export MPLBACKEND=Agg
mkdir -p "$out"
start=$SECONDS

# Shows one line an epoch of the log that comes in; on a terminal it stays in
# place.
progress() {
  awk -v terminal="$([ -t 1 ] && echo 1 || echo 0)" '
    /^epoch [0-9]+ of [0-9]+: balanced_accuracy / {
      line = sprintf("      epoch %2d: balanced accuracy %s on validation",
                     $2, substr($6, 1, 6))
      if (terminal) printf "\r%s", line
      else if ($2 % 5 == 0) print line
      shown = 1
      fflush()
    }
    END { if (shown && terminal) print "" }'
}

# run LOG COMMAND...: the whole output goes to LOG, its progress is shown.
run() {
  local log=$1
  shift
  if ! "$@" </dev/null 2>&1 | tee "$log" | progress; then
    tail -n 12 "$log" >&2
    hkd_die "that failed; the whole output is in $log"
  fi
}

# network NAME WHAT: train configs/demo/NAME.py unless that is done, test it.
network() {
  local dir=$out/$1 config=configs/demo/$1.py begun=$SECONDS
  printf '%s\n' "$2"
  # A run of other configs or images is of no use to this one.
  if [ "$(cat "$dir/quickstart.stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    printf '%s\n' "$stamp" >"$dir/quickstart.stamp"
  fi
  if [ -f "$dir/test.json" ]; then
    printf '      found in %s\n' "$dir"
    return
  fi
  if ! grep -q '"best_score"' "$dir/run_state.json" 2>/dev/null; then
    run "$dir/train.log" "$HKD_PY" tools/train.py "$config" \
      --work-dir "$dir" --resume --cfg-options data_root="$images"
  fi
  run "$dir/test.log" "$HKD_PY" tools/test.py "$dir"
  printf '      %d s\n' $((SECONDS - begun))
}

echo '[1/4] Images: drawn, not photographed'
"$HKD_PY" tools/data/make_demo_images.py --out "$images" --num 1000 \
  </dev/null
# One stamp for all three: they are compared.
stamp=$(find configs/demo configs/_base_ "$images/demo.json" -name '*.py' \
  -o -name demo.json | LC_ALL=C sort | xargs cat | cksum)
network resnet18_demo '[2/4] Teacher: ResNet-18'
network mbv2_demo '[3/4] Student alone: MobileNetV2 x0.5'
# Finds its teacher in the folder beside it.
network hybrid_resnet18_mbv2_demo \
  '[4/4] The same student with Hybrid KD'

echo
"$HKD_PY" tools/compare_runs.py \
  --title 'Drawn images: they show that it works, and nothing about skin' \
  "teacher=$out/resnet18_demo" "student alone=$out/mbv2_demo" \
  "student, Hybrid KD=$out/hybrid_resnet18_mbv2_demo"
cat <<END
A few minutes on a few drawn images rank nothing: read docs/results for that.

Pictures:   $out/*/curves.png, $out/*/confusion_matrix.png
Students:   $out/*/student.pth
Your own:   $HKD_PY tools/train.py configs/hybrid_wrn50_mbv2.py --cfg-options data_root=PATH
This took $((SECONDS - start)) s after the installation.
END
