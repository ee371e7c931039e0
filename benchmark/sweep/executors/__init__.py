"""Where the runs of a sweep are carried out: in this process, in workers on this machine, or on a SLURM cluster."""
