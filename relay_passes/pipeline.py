"""The map: which pass runs when. Nothing else decides the order.

::

    canonicalize   same meaning, simpler graph: duplicates merged, batch norm folded, NHWC inside
    dispatch       standard operators → ours, exactly; the dense ones last, since they take everything
    fuse           element-wise operators into the operator before them; equal functions shared
    schedule       loops, vectors, registers, for one target
"""

import tvm
from tvm import relax

from .canonicalize_batch_norm import CanonicalizeBatchNorm
from .collect_layers import CollectLayers
from .dispatch_dense import DispatchDense
from .plan_layout import PlanLayout
from .schedule_primfuncs import SchedulePrimFuncs

Passes = list[tvm.transform.Pass]


def canonicalize() -> Passes:
    """Same meaning, simpler graph."""
    return [
        relax.transform.EliminateCommonSubexpr(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.FoldConstant(),
        CanonicalizeBatchNorm(),
        PlanLayout(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.FoldConstant(),
        relax.transform.DeadCodeElimination(),
    ]


def dispatch(target: tvm.target.Target) -> Passes:
    """Standard operators → ours."""
    return [DispatchDense(target), relax.transform.DeadCodeElimination()]


def fuse() -> Passes:
    """Everything left becomes a PrimFunc; element-wise ones join the operator before them."""
    return [
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        CollectLayers(),
    ]


def schedule(target: tvm.target.Target) -> Passes:
    """Loops, vectors and registers."""
    return [SchedulePrimFuncs(target)]


def passes(target: tvm.target.Target) -> Passes:
    """All phases in order."""
    return [*canonicalize(), *dispatch(target), *fuse(), *schedule(target)]
