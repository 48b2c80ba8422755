# Copyright (c) hkd_mm contributors. Licensed under Apache-2.0.
# Sourced by the scripts beside it: `hkd_env` makes or reuses a virtual
# environment with hkd_mm installed, and sets HKD_PY to its Python.
#
#   HKD_VENV    the environment (default: .venv in the checkout)
#   HKD_PYTHON  the Python that makes it (default: the first of 3.10 - 3.12)

HKD_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
HKD_VENV=${HKD_VENV:-$HKD_ROOT/.venv}

hkd_die() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# True when $1 runs and its version lies in [3.10, 3.$2].
_hkd_fits() {
  "$1" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $2))" \
    >/dev/null 2>&1 </dev/null
}

_hkd_find_python() {
  if [ -n "${HKD_PYTHON:-}" ]; then
    _hkd_fits "$HKD_PYTHON" 99 ||
      hkd_die "HKD_PYTHON=$HKD_PYTHON is not a Python >= 3.10"
    printf '%s' "$HKD_PYTHON"
    return
  fi
  local name newest
  for newest in 12 99; do # the tried versions first, then any newer one
    for name in python3 python3.12 python3.11 python3.10 python; do
      if _hkd_fits "$name" "$newest"; then
        printf '%s' "$name"
        return
      fi
    done
  done
  hkd_die 'no Python >= 3.10 found; install one, or name it with' \
    'HKD_PYTHON=/path/to/python3'
}

# One line that changes with whatever decides what is installed.
_hkd_stamp() {
  "$HKD_PY" - "$HKD_ROOT" <<'PY'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
files = [root / 'setup.py', root / 'pyproject.toml',
         root / 'hkd_mm/version.py', *sorted(root.glob('requirements/*.txt'))]
digest = hashlib.sha256(f'{root} {sys.version}'.encode())
for file in files:
    digest.update(file.name.encode() + b'\0' + file.read_bytes())
print(digest.hexdigest())
PY
}

_hkd_install() {
  local python=$1 stamp_file=$2
  printf 'Installing hkd_mm into %s (some minutes and about 6 GB the first time)\n' \
    "$HKD_VENV"
  # Only the default environment is ours to empty.
  local clear=()
  if [ "$HKD_VENV" = "$HKD_ROOT/.venv" ]; then clear=(--clear); fi
  "$python" -m venv ${clear[@]+"${clear[@]}"} "$HKD_VENV" </dev/null ||
    hkd_die "$python cannot make a virtual environment" \
      "(on Debian and Ubuntu: apt-get install python3-venv)"
  HKD_PY=$HKD_VENV/bin/python
  rm -f "$stamp_file"
  "$HKD_PY" -m pip install --quiet --disable-pip-version-check --no-input \
    --editable "$HKD_ROOT[tests]" </dev/null ||
    hkd_die 'the installation failed; the lines above say why'
  _hkd_stamp >"$stamp_file"
}

hkd_env() {
  [ -f "$HKD_ROOT/setup.py" ] ||
    hkd_die 'this script works in a clone of hkd_mm, not in an installed copy'
  { mkdir -p "$(dirname "$HKD_VENV")" && : >>"$HKD_VENV.lock"; } 2>/dev/null ||
    hkd_die "cannot make $HKD_VENV; name another place with HKD_VENV"
  local stamp_file=$HKD_VENV/.hkd_mm_stamp python lock
  python=$(_hkd_find_python) || exit 2
  # Two scripts started together must not install into one environment.
  if command -v flock >/dev/null; then
    exec {lock}>"$HKD_VENV.lock"
    flock "$lock"
  fi
  HKD_PY=$HKD_VENV/bin/python
  if ! "$HKD_PY" -c '' 2>/dev/null ||
    [ "$(_hkd_stamp)" != "$(cat "$stamp_file" 2>/dev/null)" ]; then
    _hkd_install "$python" "$stamp_file"
  fi
  if [ -n "${lock:-}" ]; then exec {lock}>&-; fi
}
