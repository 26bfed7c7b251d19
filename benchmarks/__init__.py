"""Benchmarks: ``python -m benchmarks``. Ratios of one run count; counts must be exact."""
