"""The map: which pass runs when. Nothing else decides the order.

::

    simplify       same meaning, simpler graph: duplicates merged, idioms cancelled, constants folded
    approximate    sign(0) is +1 in front of binary layers
    canonicalize   same meaning, simpler graph: batch norm folded, the layout that the target wants (NHWC)
    approximate    on request: a dense layer becomes a structured one
    dispatch       standard operators → ours, exactly; the dense ones last, since they take everything
    fuse           element-wise operators into the operator before them; equal functions shared
    schedule       loops, vectors, registers, for one target
    plan weights   constants leave the executable, for the table that a file maps
    lower          what TVM's virtual machine takes, its memory planned, also that between kernels of one function

``fc.compile`` runs all of it; the plugin, which makes no file, leaves the weights where they are.
"""

import math
from collections.abc import Mapping

import tvm
from tvm import relax

from tvm_fastconv.configs import Method
from tvm_fastconv.topi.machine import Machine
from tvm_fastconv.topi.machines import machine_of
from tvm_fastconv.topi.planner import Planner

from .bitserial.approximate_bitserial import ApproximateBitserial
from .bitserial.approximate_sign import ApproximateSign
from .bitserial.canonicalize_straight_through import CanonicalizeStraightThrough
from .bitserial.dispatch_bitserial import DispatchBitserial
from .dense.canonicalize_batch_norm import CanonicalizeBatchNorm
from .dense.canonicalize_padding import CanonicalizePadding
from .dense.dispatch_batch_matmul import DispatchBatchMatmul
from .dense.dispatch_dense import DispatchDense
from .dense.dispatch_depthwise import DispatchDepthwise
from .dense.dispatch_winograd import DispatchWinograd
from .layout.dispatch_transpose import DispatchTranspose
from .layout.plan_layout import PlanLayout
from .layout.wanted_layout import wanted_layout
from .lookup.approximate_lookup import ApproximateLookup
from .lookup.dispatch_lookup import DispatchLookup
from .module.canonicalize_constant_sums import CanonicalizeConstantSums, FoldRunningSums
from .module.collect_layers import CollectLayers
from .module.follow_values import CollectValues, MarkValues
from .module.legalize import LEGALIZATIONS
from .module.limit_fusion import LimitFusion
from .module.plan_weights import PlanWeights
from .module.plan_workspaces import PlanWorkspaces
from .module.schedule_primfuncs import SchedulePrimFuncs
from .separable.approximate_separable import ApproximateSeparable
from .separable.canonicalize_low_rank import CanonicalizeLowRank
from .separable.dispatch_separable import DispatchSeparable
from .separable.fuse_chains import FuseChains
from .separable.pad_ranks import PadRanks

Passes = list[tvm.transform.Pass]


def simplify() -> Passes:
    """Same meaning, simpler graph, still in the source's layout and with its batch norms."""
    return [
        relax.transform.EliminateCommonSubexpr(),
        CanonicalizeStraightThrough(),
        relax.transform.CanonicalizeBindings(),
        *fold_constants(),
        CanonicalizePadding(),
    ]


def fold_constants() -> Passes:
    """What depends on no input is computed now, as exactly as PyTorch does."""
    fold = relax.transform.FoldConstant()
    return [CanonicalizeConstantSums(), fold, FoldRunningSums(), fold]


def approximate_signs() -> Passes:
    """+1 where a sign in front of a binary layer would be 0."""
    return [ApproximateSign()]


def canonicalize(machine: Machine) -> Passes:
    """Batch norm folded, planes in the layout that ``machine``'s kind of target wants."""
    return [
        CanonicalizeBatchNorm(),
        PlanLayout(wanted_layout(machine.kind)),
        relax.transform.FoldConstant(),
        relax.transform.DeadCodeElimination(),
    ]


def approximate(methods: Mapping[str, Method]) -> Passes:
    """Dense layers → structured ones, where ``methods`` says so."""
    return [ApproximateBitserial(methods), ApproximateLookup(methods), ApproximateSeparable(methods)]


def dispatch(planner: Planner, methods: Mapping[str, Method], weight_growth: float = math.inf) -> Passes:
    """Standard operators → ours, with the knobs that ``planner`` chooses; weights grow so many times at most."""
    return [
        DispatchBitserial(planner, methods),
        DispatchLookup(planner, methods),
        CanonicalizeLowRank(methods),
        PadRanks(planner.machine),
        DispatchSeparable(planner, methods),
        DispatchDepthwise(planner),
        DispatchWinograd(planner, weight_growth),
        DispatchDense(planner),
        DispatchBatchMatmul(planner),
        DispatchTranspose(planner),
        relax.transform.DeadCodeElimination(),
    ]


def fuse() -> Passes:
    """Everything left becomes a PrimFunc; element-wise ones join the operator before them."""
    return [
        relax.transform.LegalizeOps(LEGALIZATIONS),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        LimitFusion(),
        MarkValues(),
        relax.transform.FuseOps(),
        FuseChains(),
        CollectValues(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
        CollectLayers(),
    ]


def graph_passes(planner: Planner, methods: Mapping[str, Method] | None = None) -> Passes:
    """Everything up to a fused module, whose functions are still plain loops; ``methods`` by layer name."""
    chosen = methods or {}
    return [
        *simplify(), *approximate_signs(), *canonicalize(planner.machine), *approximate(chosen),
        *dispatch(planner, chosen), *fuse(),
    ]  # fmt: skip


def phases(target: tvm.target.Target, machine: Machine) -> dict[str, Passes]:
    """Every list of this map by name, in order, for those who draw it."""
    planner = Planner(machine)
    return {
        "simplify": simplify(),
        "approximate signs": approximate_signs(),
        "canonicalize": canonicalize(machine),
        "approximate": approximate({}),
        "dispatch": dispatch(planner, {}),
        "fuse": fuse(),
        "schedule": schedule_passes(target, machine),
        "plan weights": plan_weights(),
        "lower": lower(),
    }


def schedule_passes(target: tvm.target.Target, machine: Machine) -> Passes:
    """Loops, vectors and registers."""
    return [SchedulePrimFuncs(target, machine)]


def plan_weights(device_type: int | None = None) -> Passes:
    """The constants of ``main`` become a table beside the module; argument as for `PlanWeights`."""
    return [PlanWeights(device_type)]


GRAPHS = {"relax.backend.use_cuda_graph": True}
"""Configuration of passes: `lower` has runs of kernels between planned buffers captured once, as CUDA graphs."""


def lower_calls() -> Passes:
    """Relax with ``call_tir`` → calls that write to tensors which the entry function allocates."""
    return [
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        PlanWorkspaces(),
        relax.transform.CallTIRRewrite(),
    ]


def lower() -> Passes:
    """Relax with ``call_tir`` → Relax that the virtual machine's code generator takes, its memory planned."""
    return [
        *lower_calls(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.RewriteCUDAGraph(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


@tvm.relax.register_pipeline("fastconv")
def fastconv_pipeline() -> tvm.transform.Pass:
    """``tvm.compile(mod, target, relax_pipeline="fastconv")``: all of the above.

    Compile inside ``tvm.transform.PassContext(config=PASS_CONFIG)`` for vectorised tails.
    """

    @tvm.transform.module_pass(opt_level=0, name="fastconv")
    def run(mod: tvm.IRModule, _ctx: tvm.transform.PassContext) -> tvm.IRModule:
        target = tvm.target.Target.current(allow_none=False)
        planner = Planner(machine_of(target))
        passes = [*graph_passes(planner), *schedule_passes(target, planner.machine), *lower()]
        return tvm.transform.Sequential(passes)(mod)

    return run
