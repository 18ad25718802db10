"""Training: models, data and recipes. PyTorch only: nothing here imports TVM."""
