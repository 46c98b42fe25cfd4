#!/bin/sh
# IBM Spectrum LSF: eight workers on one launch, as an array. Not run here; only its syntax is checked.
#   bsub < docs/clusters/lsf-array.sh
#BSUB -J "scaling-quickstart[1-8]"
#BSUB -n 8
#BSUB -R "span[hosts=1]"
#BSUB -gpu "num=1"
#BSUB -M 64GB
#BSUB -W 4:00
#BSUB -wa USR2
#BSUB -wt 2
#BSUB -r
#BSUB -Q "75"
#BSUB -o scaling-quickstart.%J.%I.log
set -u
. .venv/bin/activate
# LSF sends USR2 two minutes before the limit (-wa, -wt): the worker checkpoints and exits 75, and -Q queues it again.
exec scaling work --store .scaling/store --launch quickstart --device cuda
