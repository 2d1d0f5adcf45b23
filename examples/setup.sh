#!/usr/bin/env bash
# Make a virtual environment with neuro in it, or reuse the one that is there.
# Usage: source examples/setup.sh
# NEURO_VENV chooses another folder than .venv, PYTHON the interpreter (3.11 or newer),
# NEURO_TORCH the version of torch, NEURO_EXTRAS what else to install, such as "fast,tensorboard".
set -euo pipefail
NEURO_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NEURO_VENV="${NEURO_VENV:-$NEURO_ROOT/.venv}"
neuro_extras="${NEURO_EXTRAS:-}"
# One file per state of pyproject.toml lists the extras that were installed from it.
neuro_stamp="$NEURO_VENV/.neuro-$(cksum <"$NEURO_ROOT/pyproject.toml" | cut -d' ' -f1)"
if ! [ -e "$neuro_stamp" ] || { [ -n "$neuro_extras" ] && ! grep -qx "$neuro_extras" "$neuro_stamp"; }; then
  [ -x "$NEURO_VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$NEURO_VENV"
  echo "installing neuro into $NEURO_VENV (a few minutes the first time)" >&2
  "$NEURO_VENV/bin/python" -m pip install --quiet --upgrade pip >&2
  # torch first and pinned: a bare range may fetch gigabytes of CUDA packages.
  "$NEURO_VENV/bin/python" -c 'import torch' 2>/dev/null ||
    "$NEURO_VENV/bin/python" -m pip install --quiet "torch==${NEURO_TORCH:-2.13.0}" >&2
  "$NEURO_VENV/bin/python" -m pip install --quiet \
    --editable "$NEURO_ROOT${neuro_extras:+[$neuro_extras]}" >&2
  echo "$neuro_extras" >>"$neuro_stamp"
fi
export PATH="$NEURO_VENV/bin:$PATH"
