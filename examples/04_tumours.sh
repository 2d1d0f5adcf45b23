#!/usr/bin/env bash
# Tumours: train a small network, label whole volumes by a sliding window, look at the pictures.
# Usage: bash examples/04_tumours.sh [OPTIONS OF TRAIN]     without --data: twelve made-up cases
#   bash examples/04_tumours.sh --data tumours --split tumours.json --epochs 50
set -euo pipefail
out="${NEURO_EXAMPLE_OUT:-tumour-example}"
mkdir -p "$out"

# What will it cost? Peak memory is computed, not allocated: it needs no GPU.
neuro profile unet3d_xs --fake --stage-wise -p brats/tiny
checkpoint="$(neuro train unet3d_xs -p brats/tiny "$@" -o "$out/unet" -q)"
neuro evaluate "$checkpoint" --sliding-window --save-predictions
neuro report "$out/unet" -o "$out/tumours.html"
