"""Whatever has no structure of its own: direct, Winograd, depthwise, grouped and matrix products."""
