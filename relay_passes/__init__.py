"""Graph passes, one per file; ``pipeline`` is the map.

The graph IR is Relax, the successor of Relay (TVM removed Relay in 0.20); the folder keeps the older name.
"""
