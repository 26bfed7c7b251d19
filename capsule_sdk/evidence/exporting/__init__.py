"""Exporting: a chain, or some of its records, as files for somebody else."""
