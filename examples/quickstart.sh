#!/usr/bin/env bash
# From nothing to a report: set up, then the main job on the built-in cohort.
# Usage: bash examples/quickstart.sh [OUTPUT_FOLDER]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
source "$here/setup.sh"
out="${1:-neuro-quickstart}"
mkdir -p "$out"
cd "$out"

neuro preprocess dummy -o prepared
neuro convert-hdf5 prepared -o h5
neuro split h5 -o split.json --seed 1 --stratify sex --group family
neuro train fmamba --pretrain ar -p fmri/tiny --data h5 --split split.json -o runs/pretrain
neuro train fmamba_mlp --task sex -p fmri/sex-cohort --data h5 --split split.json \
  --init-from runs/pretrain/checkpoints/best.pth -o runs/sex
neuro evaluate runs/pretrain/checkpoints/best.pth --data h5
neuro evaluate runs/sex/checkpoints/best.pth --data h5
neuro report runs/pretrain runs/sex -o report.html

echo "report: $PWD/report.html"
