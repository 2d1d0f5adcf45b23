#!/usr/bin/env bash
# Genes: the closed form, a trained pair, and every gene at once with q values.
# Usage: bash examples/06_genes.sh [OPTIONS OF ALIGN-GENES]  without --latents: a cohort of known truth
#   bash examples/06_genes.sh --latents latents --genes genes.csv --group families.tsv
set -euo pipefail
out="${NEURO_EXAMPLE_OUT:-genes-example}"
mkdir -p "$out"

neuro align-genes --method rcca "$@" -o "$out/floor"
neuro align-genes --method rcca+contrastive "$@" -o "$out/pair"
neuro align-genes --mode sweep --method rcca "$@" -o "$out/sweep"
neuro report "$out/floor" "$out/pair" "$out/sweep" -o "$out/genes.html"
