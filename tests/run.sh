#!/usr/bin/env bash
# Set up everything the tests need and run them. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
export NEURO_EXTRAS=dev,fast,mpi
source examples/setup.sh
unset NEURO_EXTRAS
# Tests start neuro many times; without byte code each start would compile the package anew.
unset PYTHONDONTWRITEBYTECODE
ruff check .
ruff format --check .
mypy
exec pytest -n 2 --dist worksteal "$@"
