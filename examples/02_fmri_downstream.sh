#!/usr/bin/env bash
# Downstream: start from the pretrained backbone, learn a phenotype, judge people never seen.
# Run 01_fmri_pretrain.sh first, with the same NEURO_EXAMPLE_OUT.
# Usage: bash examples/02_fmri_downstream.sh [COLUMN]        a column of participants.tsv, sex here
set -euo pipefail
out="${NEURO_EXAMPLE_OUT:-fmri-example}"
column="${1:-sex}"

neuro train fmamba_mlp --task "$column" -p fmri/sex-cohort \
  --data "$out/h5" --split "$out/split.json" \
  --init-from "$out/runs/pretrain/checkpoints/best.pth" -o "$out/runs/$column"
neuro evaluate "$out/runs/$column/checkpoints/best.pth" --data "$out/h5" --part test --json
neuro report "$out/runs/pretrain" "$out/runs/$column" -o "$out/downstream.html"
