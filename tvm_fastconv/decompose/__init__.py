"""Weight mathematics: NumPy in, NumPy out. Each decomposition returns its factors and the relative error."""
