"""A decomposed ``ExportedProgram`` becomes a Relax module whose calls carry their layer names."""

from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import tvm
from torch import fx
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from tvm import relax
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tvm_fastconv.errors import ModelError, quoted
from tvm_fastconv.relay_passes.graph.source_values import SourceValue, Values, note_values

from . import (  # noqa: F401
    torch_rules_image,
    torch_rules_math,
    torch_rules_nn,
    torch_rules_pool,
    torch_rules_quantize,
    torch_rules_tensor,
)
from .naming import LayerLabeller, Site, labelling, number_layers, unsupported_lines
from .torch_rules import RULES, Rule, arguments, as_dtype, promoted
from .torch_types import check_type

# Converters of TVM that make something else than PyTorch would (random numbers that are no longer random, sizes or
# branches that depend on values), or that need more than the one pure function the later passes work on.
_DENIED = {
    "_assert_async.default", "_assert_async.msg", "_local_scalar_dense.default", "_upsample_bilinear2d_aa.default",
    "affine_grid_generator.default", "bernoulli.p", "cond", "conv3d.default", "copy_.default", "exponential.default",
    "fill_.Scalar", "gru.input", "index_put.default", "index_put_.default", "item.default", "lstm.input",
    "masked_fill_.Scalar", "masked_select.default", "max_pool3d.default", "max_pool3d_with_indices.default",
    "native_dropout.default", "randn.default", "randn_like.default", "rnn_tanh.input", "roi_align.default",
    "to_sparse.default", "zero_.default",
}  # fmt: skip
_HEAVY = {"convolution", "conv1d", "conv2d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm"}
_FLOATING = {relax.op.atan2, relax.op.divide, relax.op.log_add_exp}
_OF_MASKS = {
    relax.op.add: relax.op.logical_or, relax.op.maximum: relax.op.logical_or,
    relax.op.minimum: relax.op.logical_and, relax.op.multiply: relax.op.logical_and,
}  # fmt: skip
_COPIES = {"alias.default", "clone.default", "detach.default", "detach_.default", "lift_fresh_copy.default"}
_NAMESPACES = {"aten", "quantized_decomposed"}
_ALIGNMENT = 64  # bytes; what compiled code assumes of every tensor


def kept_decompositions() -> torch.export.decomp_utils.CustomDecompTable:
    """Return torch.export's decompositions without those of operators that have a better rule here."""
    table = torch.export.default_decompositions()
    for name, rule in RULES.items():
        if rule.keep:
            packet, overload = name.split(".")
            table.pop(getattr(getattr(torch.ops.aten, packet), overload), None)
    for overload in (torch.ops.aten.add.Tensor, torch.ops.aten.add.Scalar):
        table[overload] = partial(_without_alpha, torch.ops.aten.add.Tensor)
    for overload in (torch.ops.aten.sub.Tensor, torch.ops.aten.sub.Scalar):
        table[overload] = partial(_without_alpha, torch.ops.aten.sub.Tensor)
    return table


def _without_alpha(combine: Callable, x: torch.Tensor, y: Any, alpha: float = 1) -> Any:
    """Decompose ``torch.add(x, y, alpha=2)``, whose ``alpha`` TVM's converters ignore."""
    return NotImplemented if alpha == 1 else combine(x, y * alpha)


def layer_names(graph: fx.Graph) -> dict[fx.Node, str]:
    """Return the layer name of every call in the graph. Calls of the model itself are named after their node."""
    nodes = [node for node in graph.nodes if node.op == "call_function"]
    return dict(zip(nodes, number_layers(map(_site, nodes)), strict=True))


def _site(node: fx.Node) -> Site:
    heavy = node.target.__name__.split(".")[0] in _HEAVY
    stack = node.meta.get("nn_module_stack") or {"": ("",)}
    call, (path, *_) = list(stack.items())[-1]
    if path:
        return Site(path, call, heavy)
    name, _ = _origin(node)
    return Site(name, f"node {name}", heavy)


def _origin(node: fx.Node) -> tuple[str, str]:
    """Return (name, operator) of the node this one was decomposed from, as torch.export first wrote it."""
    name, target, sources = node.name, node.target, node.meta.get("from_node")
    while sources:
        name, target, sources = sources[-1].name, sources[-1].target, sources[-1].from_node
    return name, str(target)


def unsupported(graph: fx.Graph) -> list[str]:
    """Return one line per operator and reason for which it cannot be imported."""
    known = set(Importer().convert_map)
    refused = ((node, layer, _refusal(node, known)) for node, layer in layer_names(graph).items())
    return unsupported_lines(
        (_origin(node)[1], layer, reason) for node, layer, reason in refused if reason is not None
    )


def _refusal(node: fx.Node, known: set[str]) -> str | None:
    """Why a node cannot be imported: a reason, an empty string (unknown operator), or ``None`` (it can)."""
    name = node.target.__name__
    value = node.meta.get("val")
    if name not in known or getattr(node.target, "namespace", "aten") not in _NAMESPACES:
        return ""
    if isinstance(value, torch.Tensor) and value.is_complex():
        return "complex numbers are not supported"
    if isinstance(value, torch.Tensor) and free_unbacked_symbols(value):
        return "the size of its result depends on the values of its input"
    rule = RULES.get(name)
    return rule.refuse(node) if rule is not None and rule.refuse is not None else None


def import_program(program: ExportedProgram) -> tvm.IRModule:
    """Return the Relax module of a decomposed program: inputs are parameters, weights constants.

    Its variables stand for the nodes of the program's graph, see `source_values`.

    Raises
    ------
    ModelError
        A converter failed; the message names operator and layer.
    """
    names = layer_names(program.graph)
    importer = Importer(names, _batch_symbol(program), _constants(program))
    rules = {name: _adapted(rule) for name, rule in RULES.items()}
    try:
        mod = importer.from_exported_program(program, False, True, False, rules)
    except Exception as error:
        node = importer.current
        where = (
            "inputs or outputs" if node is None else f"{node.target} in layer '{names.get(node, node.name)}'"
        )
        raise ModelError(f"cannot import {where}: {quoted(error)}") from error
    return note_values(mod, _values(mod["main"], importer.nodes))


def _values(main: relax.Function, nodes: dict[str, str]) -> Values:
    """What stands for which node, by the names of the importer's variables, which binding the weights renewed."""
    variables = [*main.params, *(binding.var for block in main.body.blocks for binding in block.bindings)]
    return {v: SourceValue(name=nodes[v.name]) for v in variables if v.name in nodes}


def _batch_symbol(program: ExportedProgram) -> str | None:
    """Return the one dynamic dimension's symbol (``s77``) where it is the first of every input it is in."""
    shapes = [n.meta["val"].shape for n in program.graph.nodes if n.op == "placeholder"]
    dynamic = [
        (axis, size) for shape in shapes for axis, size in enumerate(shape) if not isinstance(size, int)
    ]
    symbols = {str(size) for _, size in dynamic}
    is_batch = len(symbols) == 1 and all(axis == 0 and size.node.expr.is_Symbol for axis, size in dynamic)
    return symbols.pop() if is_batch else None


def _constants(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Return the weights and other constants by the names of their placeholders."""
    tensors = {**program.constants, **program.state_dict}
    return {
        spec.arg.name: tensors[spec.target]
        for spec in program.graph_signature.input_specs
        if isinstance(tensors.get(spec.target), torch.Tensor)
    }


def _in_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Return a constant whose memory holds its values, which that of a negated view does not."""
    return tensor.detach().cpu().resolve_conj().resolve_neg()


def _adapted(rule: Rule) -> Callable[[fx.Node, "Importer"], Any]:
    def convert_node(node: fx.Node, importer: "Importer") -> Any:
        value_of = importer.inlined if rule.inline else importer.value_of
        values = {name: value_of(value) for name, value in arguments(node).items()}
        return rule.convert(SimpleNamespace(**values), importer.block_builder.emit)

    return convert_node


class Importer(ExportedProgramImporter):
    """TVM's importer, labelling what it emits, with this package's rules in place of some converters."""

    def __init__(
        self,
        names: dict[fx.Node, str] | None = None,
        batch_symbol: str | None = None,
        constants: dict[str, torch.Tensor] | None = None,
    ) -> None:
        super().__init__()
        self._names = names or {}
        self._batch_symbol = batch_symbol
        self._constants = constants or {}
        self.current: fx.Node | None = None  # the node that is being imported
        self.nodes: dict[str, str] = {}  # variable to the node whose tensor it holds

    def create_convert_map(self) -> dict[str, Callable[[fx.Node], Any]]:
        """Return TVM's converters without the denied ones, plus the names of this package's rules."""
        stock = super().create_convert_map()
        return {name: stock[name] for name in stock.keys() - _DENIED} | dict.fromkeys(RULES)

    def _unary_op(self, relax_op: Callable) -> Callable[[fx.Node], Any]:
        """Return the converter of an operator of one operand, of which PyTorch may make a float first."""

        def convert(node: fx.Node) -> Any:
            x, dtype, emit = self.value_of(node.args[0]), node.meta["val"].dtype, self.block_builder.emit
            return emit(relax_op(as_dtype(x, dtype, emit) if dtype.is_floating_point else x))

        return convert

    def _binary_op(self, relax_op: Callable, intrinsic_op: Callable) -> Callable[[fx.Node], Any]:
        """Return the converter of an operator of two operands, in the dtype in which PyTorch computes it."""

        def convert(node: fx.Node) -> Any:
            left, right = self.retrieve_args(node)
            if not any(isinstance(getattr(x, "ty", None), relax.TensorType) for x in (left, right)):
                return intrinsic_op(left, right)
            emit = self.block_builder.emit
            operands = promoted(left, right, emit, floating=relax_op in _FLOATING)
            masks = operands[0].ty.dtype == "bool"
            return emit((_OF_MASKS.get(relax_op, relax_op) if masks else relax_op)(*operands))

        return convert

    def value_of(self, argument: Any) -> Any:
        """Return an fx argument with every node in it replaced by its Relax value."""
        return self._retrieve_args(argument)

    def inlined(self, argument: Any) -> Any:
        """Return `value_of` an argument; a constant where it is a weight, or a copy of one."""
        source = argument
        while isinstance(source, fx.Node) and getattr(source.target, "__name__", "") in _COPIES:
            source = source.args[0]
        tensor = self._constants.get(source.name) if isinstance(source, fx.Node) else None
        return self.value_of(argument) if tensor is None else relax.const(_in_memory(tensor).numpy())

    def _process_derived_symbol(self, symbol: Any, known: dict) -> tuple[str, Any]:
        """Call the batch ``batch``; the symbols of ``torch.export`` are numbered at random."""
        return (
            ("batch", None)
            if str(symbol) == self._batch_symbol
            else super()._process_derived_symbol(symbol, known)
        )

    @staticmethod
    def _convert_pytorch_tensor_to_tvm(tensor_value: torch.Tensor) -> tvm.runtime.Tensor:
        """Share the tensor's memory where compiled code may read it as it is, copy it elsewhere."""
        tensor = _in_memory(tensor_value).contiguous()
        if tensor.data_ptr() % _ALIGNMENT or not tensor.numel():
            return tvm.runtime.tensor(tensor.numpy())
        return tvm.runtime.from_dlpack(tensor)

    def _translate_fx_graph(
        self, graph_module: fx.GraphModule, nodes: fx.graph._node_list, *rest: Any
    ) -> tuple:
        with labelling(self.block_builder) as labeller:
            return super()._translate_fx_graph(graph_module, self._labelled(nodes, labeller), *rest)

    def _labelled(self, nodes: fx.graph._node_list, labeller: LayerLabeller) -> Iterator[fx.Node]:
        """Yield the nodes; what the base class emits for one is labelled, what it leaves unbound is bound after."""
        for self.current in nodes:
            labeller.layer = self._names.get(self.current, "")
            yield self.current
            value = self.env.get(self.current)
            if isinstance(value, relax.Expr):
                self.env[self.current] = value = labeller.bound(value)
            check_type(self.current, value)
            # Of a node with several results, the nodes that take them apart are named.
            if isinstance(value, relax.Var) and isinstance(self.current.meta.get("val"), torch.Tensor):
                self.nodes.setdefault(value.name, self.current.name)
        self.current = None
