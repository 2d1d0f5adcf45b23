#!/usr/bin/env bash
# Make a virtual environment with neuro in it, or reuse the one that is there.
# Usage: source examples/setup.sh [EXTRAS]      EXTRAS such as "dev" or "fast,tensorboard"
# NEURO_VENV chooses another folder than .venv; PYTHON chooses the interpreter (3.11 or newer).
set -euo pipefail
NEURO_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
NEURO_VENV="${NEURO_VENV:-$NEURO_ROOT/.venv}"
extras="${1:-}"
stamp="$NEURO_VENV/.neuro-${extras:-core}-$(cksum <"$NEURO_ROOT/pyproject.toml" | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  [ -x "$NEURO_VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$NEURO_VENV"
  echo "installing neuro into $NEURO_VENV (a few minutes the first time)" >&2
  "$NEURO_VENV/bin/pip" install --quiet --upgrade pip >&2
  # torch first and pinned: a bare range may fetch gigabytes of CUDA packages.
  "$NEURO_VENV/bin/python" -c 'import torch' 2>/dev/null ||
    "$NEURO_VENV/bin/pip" install --quiet "torch==${NEURO_TORCH:-2.13.0}" >&2
  "$NEURO_VENV/bin/pip" install --quiet --editable "$NEURO_ROOT${extras:+[$extras]}" >&2
  touch "$stamp"
fi
export PATH="$NEURO_VENV/bin:$PATH"
