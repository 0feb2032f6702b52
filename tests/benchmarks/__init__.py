"""Measurements by command, not by pytest: ``python -m tests.benchmarks.<name>``."""
