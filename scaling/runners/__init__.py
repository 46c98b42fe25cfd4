"""Where runs execute: profiles of places, the worker program, and schedulers behind one seam.

`scheduler.py` is the seam; `local.py` (this machine's own pool), `external.py` (workers that something else starts) and
`slurm/` implement it, and a runner file may name a user's own. Everywhere the same program works through the same list
of runs (`scaling.runners.worker`), and all coordination is in the store, so a place adds processes and nothing else.
"""
