#!/usr/bin/env bash
# Train over two machines, every batch shared among all processes. Run it on both:
#   on the first:   NODE=0 MASTER=10.0.0.1 bash examples/torchrun_two_nodes.sh OUT [train options]
#   on the second:  NODE=1 MASTER=10.0.0.1 bash examples/torchrun_two_nodes.sh OUT [train options]
# MASTER is the address of the first machine. OUT must be one folder for both (a network disk).
# Without NODE both run here, over the loopback, as a rehearsal.
# The batch size counts over all processes. When a process dies torchrun ends the others; the same
# command line, or `neuro train --resume OUT` on any number of machines, goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?give the run folder}
shift
: "${MASTER:=127.0.0.1}" "${PORT:=29500}" "${PROCESSES:=1}" "${OMP_NUM_THREADS:=1}"
export OMP_NUM_THREADS
# By default torchrun does not pass on SIGUSR1, which SLURM sends before a job's time is up.
signals=()
if torchrun --help | grep -q signals-to-handle; then
  signals=(--signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGUSR1)
fi
if [ $# -eq 0 ]; then set -- fmamba -p fmri/tiny; fi

node() {
  torchrun --nnodes 2 --node_rank "$1" --nproc_per_node "$PROCESSES" \
    "${signals[@]}" --master_addr "$MASTER" --master_port "$PORT" \
    -m neurocli train "${@:2}" -o "$out"
}

if [ -n "${NODE:-}" ]; then
  node "$NODE" "$@"
else
  node 1 "$@" &
  second=$!
  node 0 "$@"
  wait "$second"
fi
