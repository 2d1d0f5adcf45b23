#!/usr/bin/env bash
# Set up everything the tests need and run them. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh dev,fast
ruff check .
ruff format --check .
mypy
exec pytest -n 2 --dist worksteal "$@"
