"""The entry function as calls in a row, on memory that is planned at compile time.

Where all shapes are fixed, nothing is left for a virtual machine to decide: which function is called when, on what
memory, is known. `straight_line` reads it off the lowered graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import tvm
from tvm import relax, tirx

from .plan_memory import Life, plan_memory
from .plan_weights import TO_DEVICE, WEIGHT_FUNCTION


class Place(NamedTuple):
    """Memory: the input, output or weight of a number, or the workspace from an offset on."""

    kind: Literal["input", "output", "weight", "workspace"]
    at: int


@dataclass(frozen=True)
class KernelCall:
    """A call of a compiled function.

    Attributes
    ----------
    function : str
    arguments : tuple of Place
        What its pointers point to.
    scratch : int, optional
        Where in the workspace its own buffers lie, if it was asked where.
    """

    function: str
    arguments: tuple[Place, ...]
    scratch: int | None = None


@dataclass(frozen=True)
class StraightLine:
    """What an entry function does.

    Attributes
    ----------
    calls : tuple of KernelCall
        In order.
    copies : tuple of (Place, int, int)
        Afterwards: an output that is no kernel's own, and bytes: from where, which output, how many.
    workspace_bytes : int
        Of all that lies between the calls, and of their own buffers.
    """

    calls: tuple[KernelCall, ...]
    copies: tuple[tuple[Place, int, int], ...]
    workspace_bytes: int


class NotStraightError(ValueError):
    """Something is decided, or sized, only when the function runs; the message says what."""


def straight_line(main: relax.Function, scratch_bytes: Mapping[str, int] | None = None) -> StraightLine:
    """Read what ``main`` does, once its calls write to tensors that it allocates (``pipeline.lower_calls``).

    Parameters
    ----------
    scratch_bytes : mapping, optional
        What functions need besides while they run, by their names; then the workspace has room for it.

    Raises
    ------
    NotStraightError
        It needs a virtual machine.
    """
    return _Reader(main).line(scratch_bytes or {})


class _Value(NamedTuple):
    """What a variable stands for, before memory is planned."""

    kind: Literal["input", "weight", "buffer"]
    number: int


class _Reader:
    def __init__(self, main: relax.Function) -> None:
        self._sizes: list[int] = []
        self._calls: list[tuple[str, list[_Value]]] = []
        self._values: dict[relax.Var, _Value | list[_Value]] = {
            param: _Value("input", i) for i, param in enumerate(main.params)
        }
        for param in main.params:
            _bytes(param.ty)
        for binding in (binding for block in main.body.blocks for binding in block.bindings):
            self._read(binding)
        found = self._value(main.body.body)
        self._results = found if isinstance(found, list) else [found]
        types = main.ret_ty.fields if isinstance(main.ret_ty, relax.TupleType) else [main.ret_ty]
        self._result_bytes = [_bytes(type_) for type_ in types]

    def line(self, scratch_bytes: Mapping[str, int]) -> StraightLine:
        """What was read, on memory that is planned now."""
        # A buffer that is a result is the output's own memory.
        outputs = {
            value.number: i for i, value in reversed([*enumerate(self._results)]) if value.kind == "buffer"
        }
        lives: dict[int, Life] = {}
        for at, (_, values) in enumerate(self._calls):
            for value in values:
                if value.kind == "buffer" and value.number not in outputs:
                    first = lives[value.number].first if value.number in lives else at
                    lives[value.number] = Life(self._sizes[value.number], first, at)
        own = {at: scratch_bytes.get(name, 0) for at, (name, _) in enumerate(self._calls)}
        scratch = {at: Life(size, at, at) for at, size in own.items() if size}
        planned, total = plan_memory([*lives.values(), *scratch.values()])
        offsets = dict(zip(lives, planned[: len(lives)], strict=True))
        scratch_at = dict(zip(scratch, planned[len(lives) :], strict=True))

        def place(value: _Value) -> Place:
            if value.kind != "buffer":
                return Place(value.kind, value.number)
            if value.number in outputs:
                return Place("output", outputs[value.number])
            return Place("workspace", offsets[value.number])

        calls = tuple(
            KernelCall(name, tuple(map(place, values)), scratch_at.get(at))
            for at, (name, values) in enumerate(self._calls)
        )
        placed = [(place(value), i, size) for i, (value, size) in self._numbered_results()]
        copies = tuple(copy for copy in placed if copy[0] != Place("output", copy[1]))
        return StraightLine(calls, copies, total)

    def _numbered_results(self) -> list[tuple[int, tuple[_Value, int]]]:
        return list(enumerate(zip(self._results, self._result_bytes, strict=True)))

    def _read(self, binding: relax.Binding) -> None:
        value = binding.value
        if not isinstance(binding, relax.VarBinding):
            raise NotStraightError(f"{binding.var.name_hint} is checked when the model runs")
        if not isinstance(value, relax.Call):
            self._values[binding.var] = self._value(value)
        elif isinstance(value.op, tvm.ir.GlobalVar):
            self._calls.append((value.op.name_hint, [self._tensor(arg) for arg in value.args]))
        elif isinstance(value.op, relax.ExternFunc) and value.op.global_symbol == WEIGHT_FUNCTION:
            self._values[binding.var] = _Value("weight", int(value.args[0].value))
        elif isinstance(value.op, relax.ExternFunc) and value.op.global_symbol == TO_DEVICE:
            self._values[binding.var] = self._tensor(value.args[0])
        elif _name(value) == "relax.builtin.alloc_tensor":
            self._values[binding.var] = _Value("buffer", len(self._sizes))
            self._sizes.append(_bytes(binding.var.ty))
        elif _name(value) == "relax.reshape":
            _bytes(binding.var.ty)
            self._values[binding.var] = self._tensor(value.args[0])
        else:
            raise NotStraightError(f"{_name(value)} is no compiled function")

    def _value(self, expr: relax.Expr) -> _Value | list[_Value]:
        if isinstance(expr, relax.Tuple):
            return [self._tensor(field) for field in expr.fields]
        if isinstance(expr, relax.TupleGetItem):
            fields = self._value(expr.tuple_value)
            assert isinstance(fields, list), "only tuples have items"
            return fields[expr.index]
        if expr in self._values:
            return self._values[expr]
        what = "a scalar constant" if isinstance(expr, tvm.ir.GenericConst) else type(expr).__name__
        raise NotStraightError(f"{what} is passed on")

    def _tensor(self, expr: relax.Expr) -> _Value:
        value = self._value(expr)
        if isinstance(value, list):
            raise NotStraightError("a tuple is passed on")
        return value


def _name(call: relax.Call) -> str:
    return str(getattr(call.op, "name", None) or getattr(call.op, "global_symbol", call.op))


def _bytes(type_: relax.Type) -> int:
    """Of a tensor of fixed shape."""
    if not isinstance(type_, relax.TensorType) or type_.shape is None:
        raise NotStraightError(f"{type_} is no tensor of known rank")
    extents: Sequence[tvm.ir.Expr] = list(type_.shape)
    if not all(isinstance(extent, tirx.IntImm) for extent in extents):
        raise NotStraightError("shapes are dynamic")
    dtype = tvm.DataType(str(type_.dtype))
    total = -(-dtype.bits // 8) * dtype.lanes
    for extent in extents:
        total *= int(extent)
    if not total:
        raise NotStraightError("a tensor is empty")
    return total
