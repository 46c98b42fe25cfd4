#!/bin/sh
# The integration suite on a cluster of its own: run.sh PYTHON MARKS [ALONE]. Tests of the mark expression MARKS run side
# by side, those of ALONE after them, one by one. The cluster is stopped at the end.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=$1
CLUSTER_DIR=${CLUSTER_DIR:-${TMPDIR:-/tmp}/scaling-cluster}
export CLUSTER_DIR OMP_NUM_THREADS=1
finish() {
  "$here/cluster.sh" stop
  for trouble in read-only full; do
    if mountpoint -q "$CLUSTER_DIR/small/$trouble"; then umount -l "$CLUSTER_DIR/small/$trouble"; fi
  done
}
trap finish EXIT
trap 'exit 130' INT TERM
# Before the nodes start, because each of them has a mount namespace of its own.
finish
rm -rf "$CLUSTER_DIR/shared"
for trouble in read-only full; do
  mkdir -p "$CLUSTER_DIR/small/$trouble"
  mount -t tmpfs -o size=16m scaling-small "$CLUSTER_DIR/small/$trouble"
done
"$here/cluster.sh" start
cd "$here/../.."
"$python" -m pytest -p no:hypothesispytest tests/slurm -m "$2" -n ${CLUSTER_TESTS:-8} --dist worksteal --durations=5
if [ -n "${3:-}" ]; then "$python" -m pytest -p no:hypothesispytest tests/slurm -m "$3" --durations=5; fi
