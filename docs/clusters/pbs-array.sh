#!/bin/sh
# PBS Professional or OpenPBS: eight workers on one launch, as an array. Not run here; only its syntax is checked.
#   qsub docs/clusters/pbs-array.sh
#PBS -N scaling-quickstart
#PBS -J 0-7
#PBS -l select=1:ncpus=8:ngpus=1:mem=64gb
#PBS -l walltime=04:00:00
#PBS -r y
#PBS -j oe
set -u
cd "$PBS_O_WORKDIR" || exit 1
. .venv/bin/activate
# PBS sends TERM before KILL (kill_delay, 10 s by default; ask for at least 120 s): the worker checkpoints and exits 75.
exec scaling work --store .scaling/store --launch quickstart --device cuda
