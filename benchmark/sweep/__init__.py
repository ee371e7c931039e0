"""Sweeps of many runs: grids, jobs, their status by the records, execution, and tuning."""
