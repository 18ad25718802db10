"""Random networks against PyTorch. Most are compiled with ``verify=False``: it is not to hide what is wrong."""

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import tvm

import tvm_fastconv as fc
from tvm_fastconv.runtime.cpu import missing_features
from tvm_fastconv.targets import cpu_features, resolve_target

from . import operators_arithmetic, operators_decisions, operators_layers, operators_shapes  # noqa: F401
from .generator import Generator
from .network import Draft, Input, Network, Step, load, program
from .operators import OPERATORS

TOLERANCE = 1e-4
"""Of the largest output. A layer is exact to 2e-5 (see the design); ten layers one after the other add up."""

NOISE = 1e-5
"""Of the largest output: where PyTorch's float32 is further from its float64, a network is too restless to compare."""

HASWELL = "x86_64-linux-gnu -mcpu=haswell"

RECIPES = (
    *((name,) for name in ("activation", "scale", "combine", "join", "pad", "cut", "chunk", "reduce", "clamp")),
    *((name,) for name in ("roll", "flip", "turn", "reshape", "repeat", "shuffle", "interpolate", "max_pool", "gate")),
    *((name,) for name in ("average_pool", "adaptive_pool", "pool_1d", "patches", "pick", "attention", "other_norm")),
    *((name,) for name in ("integers", "divide_integers", "divide_by_integers", "floats", "masks", "selected")),
    *((name,) for name in ("sign", "compare", "between", "levels", "fake_quantized", "whole")),
    *(("again",) for _ in range(4)),
    *((name,) for name in ("convolution", "pointwise", "depthwise", "low_rank", "factorised", "dictionary")),
    *((name,) for name in ("transposed", "convolution_1d", "linear", "batch_norm", "functional_weights")),
    ("convolution", "batch_norm", "activation"),
    ("depthwise", "pointwise", "activation"),
    ("sign", "sign_convolution"),
    ("sign", "sign_convolution", "batch_norm", "sign"),
    ("batch_norm", "sign", "sign_convolution", "batch_norm"),
    ("sign", "pad", "sign_convolution"),
    ("sign", "max_pool", "sign_convolution"),
    ("sign", "shuffle", "sign_convolution"),
    ("levels", "sign_convolution", "batch_norm", "levels"),
    ("levels", "pad", "sign_convolution"),
    ("divide_integers", "floats", "sign_convolution"),
    ("integers", "compare", "floats", "sign_convolution"),
    ("compare", "masks", "floats", "sign_convolution"),
    ("fake_quantized", "sign_convolution", "fake_quantized"),
    ("whole", "divide_integers", "floats"),
    ("compare", "selected"),
)  # fmt: skip
"""Operators that are drawn together, one after the other."""


@dataclass(frozen=True)
class Bundle:
    """Networks that are compiled as one module: half of the time goes into what a module costs, however small."""

    networks: tuple[Network, ...]
    target: str = "native"
    dynamic: bool = False
    verified: bool = False
    """Verification must agree, too."""
    optimised: bool = True
    """By LLVM, as users get it. LLVM is not what is tested, and takes half of the time; but it aborts on AVX-512 code
    ("Cannot emit physreg copy instruction") that it is not to optimise."""


class Networks(Generator):
    """Up to a dozen operators each, several inputs and outputs, odd sizes, weights of every structure."""

    name = "networks"
    parts = 6

    def case(self, rng: random.Random) -> Bundle:
        batch, native = rng.choice((1, 1, 2, 3)), rng.random() < 0.35
        return Bundle(
            networks=tuple(_drawn(rng, batch) for _ in range(self.parts)),
            target="native" if native else HASWELL,
            optimised=native or rng.random() < 0.1,
            verified=rng.random() < 0.25,
            dynamic=batch > 1 and rng.random() < 0.2,  # torch.export takes a batch of 1 for a constant
        )

    def run(self, case: Bundle) -> str | None:
        net, inputs = load(_source(case))
        model = _exported(net, inputs) if case.dynamic else net
        dynamic = model is not net
        compiled = fc.compile(model, tuple(inputs), verify=case.verified, target=_target(case))
        batches = [inputs, [x[:1] for x in inputs]] if dynamic else [inputs]
        return next((wrong for given in batches if (wrong := _difference(compiled, net, given))), None)

    def smaller(self, case: Bundle) -> Iterator[Bundle]:
        if len(case.networks) > 1:
            yield from (dataclasses.replace(case, networks=(network,)) for network in case.networks)
        if case.dynamic:
            yield dataclasses.replace(case, dynamic=False)
        if case.verified:
            yield dataclasses.replace(case, verified=False)
        if case.target != "native" or not case.optimised:
            yield dataclasses.replace(case, target="native", optimised=True)
        for network in _with_fewer_steps(case.networks[0]) if len(case.networks) == 1 else ():
            yield dataclasses.replace(case, networks=(network,))

    def code(self, case: Bundle) -> str:
        lines = [_source(case), "", "import tvm_fastconv as fc", "", "net = Net().eval()"]
        if not case.optimised:
            lines.append(f"# failed only for {case.target!r} with TVM's opt-level=0")
        if case.dynamic:
            lines.append('shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in inputs)')
            lines.append("model = torch.export.export(net, tuple(inputs), dynamic_shapes=shapes)")
        model = "model" if case.dynamic else "net"
        lines += [
            f"compiled = fc.compile({model}, tuple(inputs), verify={case.verified}, target={case.target!r})",
            "got, want = compiled(*inputs), net(*inputs)",
            "for a, b in zip(got if isinstance(got, tuple) else (got,), want):",
            "    print(a.dtype, b.dtype, tuple(b.shape), (a.double() - b.double()).abs().max().item())",
        ]
        return "\n".join(lines)


def _target(case: Bundle) -> tvm.target.Target:
    """The target of a case, or this machine where it cannot run that one's code."""
    target = resolve_target(case.target)
    if missing_features(cpu_features(target)):
        target = resolve_target("native")
    return target if case.optimised else tvm.target.Target(dict(target.export()) | {"opt-level": 0})


def _drawn(rng: random.Random, batch: int) -> Network:
    """A network whose operators all apply and whose outputs are worth comparing."""
    while True:
        network = Network(inputs=tuple(_inputs(rng, batch)), steps=())
        draft, wanted, number = Draft(network), rng.randint(2, 10), len(network.inputs)
        for _ in range(60):
            if len(draft.steps) >= wanted:
                break
            latest = max(draft.values)
            reads = latest if rng.random() < 0.75 else rng.choice(list(draft.values))
            for name in rng.choice(RECIPES):
                step = Step(number, name, rng.randrange(10**6), reads)
                if draft.add(step, OPERATORS[name]):
                    reads, number = number, number + 1
        if draft.steps and _is_calm(program([draft])):
            return dataclasses.replace(network, steps=tuple(draft.steps))


def _inputs(rng: random.Random, batch: int) -> Iterator[Input]:
    shape = (batch, rng.choice((1, 2, 3, 4, 5, 8, 9, 16, 18, 32)), rng.randint(3, 12), rng.randint(3, 12))
    if rng.random() < 0.1:
        shape = shape[:3]
    floats = (f"torch.randn({shape})", f"torch.randn({shape})", f"torch.randint(-4, 5, {shape}).float()")
    others = (
        f"torch.randint(-20, 20, {shape})",
        f"torch.randint(-20, 20, {shape}, dtype=torch.int32)",
        f"torch.rand({shape}) > 0.4",
    )
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        yield Input(rng.choice(rng.choice((floats, floats, others))), rng.randrange(10**6))


def _source(case: Bundle) -> str:
    return program([_drafted(network) for network in case.networks])


def _drafted(network: Network) -> Draft:
    draft = Draft(network)
    for step in network.steps:
        draft.add(step, OPERATORS[step.operator])
    return draft


def _is_calm(source: str) -> bool:
    """Whether PyTorch computes the same in float32 and in float64."""
    net, inputs = load(source)
    exact, _ = load(source.replace("float32", "float64").replace(".float()", ".double()"))
    with torch.no_grad():
        rough = _tuple(net(*inputs))
        with _computing_in(torch.float64):
            fine = _tuple(exact.double()(*(x.double() if x.is_floating_point() else x for x in inputs)))
    return all(_distance(a, b) <= NOISE for a, b in zip(rough, fine, strict=True))


@contextlib.contextmanager
def _computing_in(dtype: torch.dtype) -> Iterator[None]:
    """What integers become in a division, and Python's numbers."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _exported(
    net: torch.nn.Module, inputs: list[torch.Tensor]
) -> torch.export.ExportedProgram | torch.nn.Module:
    """The network with a dynamic batch; itself where PyTorch cannot export it so."""
    shapes = tuple({0: torch.export.Dim("batch", min=1, max=64)} for _ in inputs)
    try:
        return torch.export.export(net, tuple(inputs), dynamic_shapes=shapes)
    except Exception:
        return net


def _difference(compiled: fc.CompiledModel, net: torch.nn.Module, inputs: list[torch.Tensor]) -> str | None:
    with torch.no_grad():
        want = _tuple(net(*inputs))
    got = _tuple(compiled(*inputs))
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"output {index} is {a.dtype} {tuple(a.shape)}, expected {b.dtype} {tuple(b.shape)}"
        error = _distance(a, b)
        if not error <= (TOLERANCE if b.is_floating_point() else 0):
            return f"output {index} of {len(want)} is wrong by {error:.1e} of its largest value"
    return None


def _tuple(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    largest = max(b.double().abs().max().item(), 1e-30)
    return (a.double() - b.double()).abs().max().item() / largest


def _with_fewer_steps(network: Network) -> Iterator[Network]:
    """The network up to a step, or without one, as far as the rest still applies."""
    count = len(network.steps)
    kept = [network.steps[:end] for end in range(1, count)]
    kept += [network.steps[:left_out] + network.steps[left_out + 1 :] for left_out in range(count)]
    for steps in kept:
        draft = _drafted(dataclasses.replace(network, steps=steps))
        if draft.steps and _is_calm(program([draft])):
            yield dataclasses.replace(network, steps=tuple(draft.steps))
