"""Few levels: recognised in weights and activations, made on request, computed by popcounts of packed bits."""
