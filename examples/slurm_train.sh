#!/usr/bin/env bash
# One training run that outlives the time limits of its jobs.
# Usage: sbatch examples/slurm_train.sh RUN_DIR [arguments of `neuro train`]
#   sbatch examples/slurm_train.sh runs/ar fmamba --pretrain ar --data h5 --split split.json
# Two minutes before the limit Slurm sends SIGUSR1 to this script, which hands it on; `neuro`
# finishes its step, saves and ends with 75, and the job goes back to the queue. The next start
# finds the run and goes on with it, to the same result as one job without a limit.
#SBATCH --job-name=neuro
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -uo pipefail

run="${1:?usage: sbatch slurm_train.sh RUN_DIR [arguments of neuro train]}"
shift
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

if [ -e "$run/checkpoints/last.pth" ]; then
  neuro train --resume "$run" &
else
  neuro train "$@" --out "$run" &
fi
job=$!
# USR1 is the limit, TERM a preemption; both save. A cancelled job is not put back.
trap 'kill -USR1 "$job" 2>/dev/null' USR1
trap 'kill -TERM "$job" 2>/dev/null' TERM

# `wait` returns at a signal, before the run has ended.
wait "$job"; code=$?
while kill -0 "$job" 2>/dev/null; do
  wait "$job"; code=$?
done

if [ "$code" -eq 75 ]; then
  echo "stopped after saving; back to the queue"
  scontrol requeue "${SLURM_JOB_ID:?not inside a Slurm job}"
fi
exit "$code"
