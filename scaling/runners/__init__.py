"""Where runs execute: runner files, the worker program, and schedulers behind one interface.

`scheduler.py` is the interface; `local.py` (this machine's own pool), `external.py` (workers that something else
starts) and `slurm/` implement it, and a runner file may name a user's own. Everywhere the same program
works through the same list of runs (`scaling.runners.worker`), and all coordination is in the store: a scheduler only
starts processes.
"""
