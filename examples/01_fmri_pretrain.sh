#!/usr/bin/env bash
# Self-supervised pretraining: raw runs -> HDF5 -> split -> FMamba that predicts the next patch.
# Usage: bash examples/01_fmri_pretrain.sh [DATASET SRC]     without arguments: the built-in cohort
#   bash examples/01_fmri_pretrain.sh bids ~/data/ds000114
set -euo pipefail
out="${NEURO_EXAMPLE_OUT:-fmri-example}"
mkdir -p "$out"

neuro preprocess "${@:-dummy}" -o "$out/prepared"
neuro convert-hdf5 "$out/prepared" -o "$out/h5"
# The built-in cohort has twins and siblings, who must not be on both sides of a split.
columns=()
[ $# -gt 0 ] || columns=(--stratify sex --group family)
neuro split "$out/h5" -o "$out/split.json" --seed 1 "${columns[@]}"

# -q prints just the checkpoint, so commands chain.
checkpoint="$(neuro train fmamba --pretrain ar -p fmri/tiny \
  --data "$out/h5" --split "$out/split.json" -o "$out/runs/pretrain" -q)"
neuro evaluate "$checkpoint" --data "$out/h5" --json
neuro report "$out/runs/pretrain" -o "$out/pretrain.html"
