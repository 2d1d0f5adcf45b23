#!/usr/bin/env bash
# Calcium imaging: embeddings learned from stimuli and without labels, judged side by side.
# Usage: bash examples/05_calcium.sh [OPTIONS OF TRAIN]     without --data: sessions of known truth
#   bash examples/05_calcium.sh --data sessions --steps 1000
set -euo pipefail
out="${NEURO_EXAMPLE_OUT:-calcium-example}"
mkdir -p "$out"

for kind in labels time; do
  objective=()
  [ "$kind" = labels ] || objective=(--pretrain time)
  checkpoint="$(neuro train cebra -p calcium/tiny "${objective[@]}" "$@" -o "$out/$kind" -q)"
  # Decoding and agreement are of the test part, beside principal components and raw frames.
  neuro evaluate "$checkpoint" --json
done
neuro report "$out/labels" "$out/time" -o "$out/calcium.html"
