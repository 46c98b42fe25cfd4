"""Where runs execute: profiles of places, the worker program, and the two schedulers, this machine's own pool and
SLURM.

A scheduler is three verbs, submit, poll and cancel. Everywhere the same program works through the same list of runs
(`scaling.runners.worker`), and all coordination is in the store, so a place adds processes and nothing else.
"""
