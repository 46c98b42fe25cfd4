"""Everything that knows SLURM."""
