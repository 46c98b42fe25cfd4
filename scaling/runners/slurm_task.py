"""The module of a SLURM task until 0.1: what 0.1 has submitted pickles these two names. Goes away after 0.2."""

from scaling.runners.slurm.task import go_on, work

__all__ = ["go_on", "work"]
