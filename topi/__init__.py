"""Operators: parameters, NumPy reference, tensor expression. The schedules are in ``topi.schedules``."""
