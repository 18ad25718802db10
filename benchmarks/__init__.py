"""Measurements against other engines: ``python -m benchmarks`` runs all of them."""
