#!/usr/bin/env bash
# From nothing to a report: set up, then the main job on the built-in cohort.
# Usage: bash examples/quickstart.sh [OUTPUT_FOLDER]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$here/setup.sh"

export NEURO_EXAMPLE_OUT="${1:-neuro-quickstart}"
bash "$here/01_fmri_pretrain.sh"
bash "$here/02_fmri_downstream.sh"

echo "report: $(cd "$NEURO_EXAMPLE_OUT" && pwd)/downstream.html"
