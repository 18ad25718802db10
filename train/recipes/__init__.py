"""The experiments of the systems that this project takes over from, one function each: from their options to a `Job`.

``run_job(recipe(...), out=folder)`` runs one; the same on the command line, on several GPUs and on several machines
stands in the docstring of each.
"""

from .binary_conv_net import binary_conv_net
from .fixed_stencils import fixed_stencils
from .lookup_alexnet import lookup_alexnet
from .separable_grid import separable_grid
from .xnor_mlp import xnor_mlp

__all__ = ["binary_conv_net", "fixed_stencils", "lookup_alexnet", "separable_grid", "xnor_mlp"]
