"""An ``ExportedProgram`` becomes an imported model: decomposed, checked, cast to float32, translated."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from tvm_fastconv.errors import ModelError, quoted

from .examples import HALVES, example_arrays, without_data
from .imported_model import ImportedModel
from .torch_export import quiet
from .torch_import import import_program, kept_decompositions, unsupported
from .torch_rules import arguments


def import_exported(program: ExportedProgram, example_inputs: Any, notices: list[str]) -> ImportedModel:
    """Import a program. It is not changed.

    Parameters
    ----------
    program : ExportedProgram
        Exported in eval mode; dynamic dimensions stay dynamic.
    example_inputs : Tensor, ndarray, tuple of them or None
        ``None`` takes those the program was exported with.
    notices : list of str
        Facts found so far.

    Raises
    ------
    ModelError
        Unsupported operators (all of them listed), training mode, state, bad weights, inputs that do not fit.
    """
    _refuse_training(program)
    decomposed = _decomposed(program)
    _check_weights(decomposed)
    notices = notices + _effects(decomposed)
    source = program
    halves = sorted({str(dtype).removeprefix("torch.") for dtype in _dtypes(decomposed) if dtype in HALVES})
    if halves:
        _cast_to_float32(decomposed)
        source = decomposed
        notices.append(f"the model computes in {' and '.join(halves)}; it is compiled in float32")
    input_names = _check_inputs(decomposed)
    given = program.example_inputs if example_inputs is None else example_inputs
    kept, output_names, dropped = _outputs(decomposed)
    lines = unsupported(decomposed.graph)
    if lines:
        raise ModelError("unsupported operators:\n  " + "\n  ".join(lines))
    mod = import_program(decomposed)
    return ImportedModel(
        mod=mod,
        input_names=input_names,
        output_names=output_names,
        example_inputs=example_arrays(mod, input_names, given),
        reference=_reference(source, kept),
        program=decomposed,
        notices=(*notices, *dropped),
    )


def _refuse_training(program: ExportedProgram) -> None:
    """Refuse batch statistics and random dropout, which an export in eval mode does not have."""
    for node in program.graph.nodes:
        if node.op != "call_function" or not hasattr(node.target, "_schema"):
            continue
        values = arguments(node)
        dropout = "dropout" in node.target.__name__ and values.get("train", values.get("training"))
        statistics = (
            "batch_norm" in node.target.__name__ and values.get("training") and values.get("running_mean")
        )
        if dropout or statistics:
            raise ModelError(
                f"{node.target} (node '{node.name}') runs in training mode: export the model after model.eval(), "
                "and give F.dropout training=self.training"
            )


def _decomposed(program: ExportedProgram) -> ExportedProgram:
    try:
        with quiet():
            return program.run_decompositions(kept_decompositions())
    except Exception as error:
        raise ModelError(f"torch.export cannot decompose the program: {quoted(error)}") from error


def _effects(program: ExportedProgram) -> list[str]:
    """Refuse programs that keep state; report those that write to their inputs."""
    notices = []
    for spec in program.graph_signature.output_specs:
        if spec.kind is OutputKind.BUFFER_MUTATION:
            raise ModelError(
                f"forward() writes to the buffer '{spec.target}': a compiled model keeps nothing between calls, "
                "so return that value as an output instead"
            )
        if spec.kind is OutputKind.USER_INPUT_MUTATION:
            notices.append(
                f"forward() changes its input '{spec.target}' in place; the compiled model does not"
            )
    return notices


def _dtypes(program: ExportedProgram) -> Iterator[torch.dtype]:
    for node in program.graph.nodes:
        for value in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(value, torch.Tensor):
                yield value.dtype


def _cast_to_float32(program: ExportedProgram) -> None:
    """Make a (private) program compute in float32: weights, example inputs, dtypes written in the graph."""

    def cast(value: Any) -> Any:
        if isinstance(value, torch.Tensor) and value.dtype in HALVES:
            single = value.detach().to(torch.float32)
            return torch.nn.Parameter(single) if isinstance(value, torch.nn.Parameter) else single
        return torch.float32 if isinstance(value, torch.dtype) and value in HALVES else value

    for node in program.graph.nodes:
        node.args, node.kwargs = pytree.tree_map(cast, node.args), pytree.tree_map(cast, node.kwargs)
        node.meta.pop("tensor_meta", None)  # says the same as "val", in a form that cannot be changed
        if "val" in node.meta:
            node.meta["val"] = pytree.tree_map(cast, node.meta["val"])
    program.graph_module.recompile()
    program._state_dict = {name: cast(value) for name, value in program.state_dict.items()}
    program._constants = {name: cast(value) for name, value in program.constants.items()}
    if program.example_inputs is not None:
        program._example_inputs = pytree.tree_map(cast, program.example_inputs)


def _check_inputs(program: ExportedProgram) -> tuple[str, ...]:
    """Return the names of the inputs, in order."""
    names = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is not InputKind.USER_INPUT:
            continue
        if not isinstance(spec.arg, TensorArgument):
            raise ModelError(
                f"input '{spec.arg.name}' is the constant {spec.arg.value!r}; only tensors are inputs of a compiled "
                "model: bind other arguments before exporting"
            )
        if 0 in _placeholder(program, spec.arg.name).shape:
            raise ModelError(f"input '{spec.arg.name}' has a size of 0: every size must be at least 1")
        names.append(spec.arg.name)
    if not names:
        raise ModelError("the model has no inputs")
    return tuple(names)


def _placeholder(program: ExportedProgram, name: str) -> torch.Tensor:
    return next(n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name == name)


def _outputs(program: ExportedProgram) -> tuple[list[int], tuple[str, ...], list[str]]:
    """Drop the outputs that are Python constants from a (private) program.

    Returns
    -------
    (positions among the flattened outputs, names, notices)
    """
    specs = program.graph_signature.output_specs
    user = [spec for spec in specs if spec.kind is OutputKind.USER_OUTPUT]
    structure = pytree.tree_unflatten(list(range(len(user))), program.call_spec.out_spec)
    names: list[str] = []
    for path, index in pytree.tree_flatten_with_path(structure)[0]:
        name = _path_name(path)
        names.append(name if name not in names else f"{name}_{index}")
    kept, notices = [], []
    for index, (spec, name) in enumerate(zip(user, names, strict=True)):
        if isinstance(spec.arg, TensorArgument):
            kept.append(index)
        elif hasattr(spec.arg, "value"):
            notices.append(f"the output '{name}' is the constant {spec.arg.value!r}; it is left out")
        else:
            raise ModelError(
                f"the output '{name}' is a {type(spec.arg).__name__}; only tensors can be outputs"
            )
    if not kept:
        raise ModelError("the model returns no tensor")
    tensors = [isinstance(spec.arg, TensorArgument) for spec in specs]
    output = program.graph.output_node()
    output.args = (tuple(arg for arg, keep in zip(output.args[0], tensors, strict=True) if keep),)
    program.graph_signature.output_specs = [s for s, keep in zip(specs, tensors, strict=True) if keep]
    return kept, tuple(names[index] for index in kept), notices


def _path_name(path: tuple) -> str:
    """Name an output by its place: ``output``, ``output_1``, a dict's key, ``key_0``."""
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
    return "_".join(parts if parts and not parts[0].isdigit() else ["output", *parts])


def _check_weights(program: ExportedProgram) -> None:
    """Refuse NaN anywhere, and infinities in parameters (a buffer may be an attention mask)."""
    parameters = set(program.graph_signature.parameters)
    bad = []
    for name, tensor in {**program.state_dict, **program.constants}.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point() or not tensor.numel():
            continue
        if without_data(tensor):
            raise ModelError(
                f"'{name}' has no data (it is on the device 'meta', or fake): load the weights first"
            )
        if tensor.dtype is torch.float64 and name in parameters:
            raise ModelError(f"'{name}' is float64; allowed: float32, float16, bfloat16 (call model.float())")
        lowest, highest = torch.aminmax(tensor)  # NaN wins both; no copy, unlike isfinite
        if lowest.isnan() or (name in parameters and (lowest.isinf() or highest.isinf())):
            bad.append(f"'{name}'")
    if bad:
        raise ModelError("weights are NaN or infinite: " + ", ".join(bad))


def _reference(program: ExportedProgram, kept: list[int]) -> Callable[..., tuple[np.ndarray, ...]]:
    """Return a function that runs the program in PyTorch on arrays and returns its tensors as arrays."""
    module: list[fx.GraphModule] = []
    weights = [t for t in program.state_dict.values() if isinstance(t, torch.Tensor)]
    device = weights[0].device if weights else torch.device("cpu")

    def run(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        if not module:
            module.append(program.module())
        tensors = [torch.tensor(np.asarray(array), device=device) for array in inputs]
        args, kwargs = pytree.tree_unflatten(tensors, program.call_spec.in_spec)
        with torch.no_grad():
            leaves = pytree.tree_leaves(module[0](*args, **kwargs))
        return tuple(leaves[index].detach().cpu().resolve_neg().numpy() for index in kept)

    return run
