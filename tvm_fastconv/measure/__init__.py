"""Times and accuracies: of layers, of compiled files, and of other engines beside them."""
