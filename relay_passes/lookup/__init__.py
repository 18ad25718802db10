"""Sparse constant weights: LCNN's dictionaries and pruned layers, made on request, computed by lookups."""
