"""Executors run the jobs of a sweep: in this process, in workers on this machine, or on a SLURM cluster."""
