#!/usr/bin/env bash
# Honest cohorts: folds without shared families, and patients matched to controls with a Love plot.
# Usage: bash examples/03_matched_cohort.sh [TABLE TREATMENT COVARIATES]   without: the built-in table
#   bash examples/03_matched_cohort.sh participants.tsv group=patient age,sex
set -euo pipefail
out="${NEURO_EXAMPLE_OUT:-cohort-example}"
table="${1:-$out/prepared/participants.tsv}" treatment="${2:-sex=F}" covariates="${3:-age}"
mkdir -p "$out"

[ $# -gt 0 ] || neuro preprocess dummy -o "$out/prepared" -q >/dev/null
groups=()
[ $# -gt 0 ] || groups=(--group family)
neuro split "$table" -o "$out/folds.json" --folds 5 "${groups[@]}"
neuro split "$table" -o "$out/matched.json" --sample psm "${groups[@]}" \
  --treatment "$treatment" --covariates "$covariates"
echo "balance: $out/matched.json.report.html"
