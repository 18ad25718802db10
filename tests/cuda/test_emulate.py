"""The emulator itself: what it computes is what CUDA would, and what CUDA forbids it notices."""

import re
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import relax, te, tirx
from tvm.s_tir import Schedule

from tvm_fastconv.topi.tf32_conv2d import round_to_tf32

from ..close import assert_close
from . import emulate, kernel_library
from .emulate import (
    ORDERS,
    TARGET,
    EmulationError,
    Launch,
    attach,
    in_all_orders,
    launches,
    run_emulated,
    run_in_all_orders,
    run_source,
)

each_order = pytest.mark.parametrize("order", ORDERS)


def _matmul(size: int = 64, scope: str = "shared") -> tirx.PrimFunc:
    """Tiles of 32 x 32 in blocks of 8 x 8 threads; both operands through shared memory."""
    a, b = (te.placeholder((size, size), "float32", name=n) for n in "ab")
    k = te.reduce_axis((0, size), name="k")
    c = te.compute((size, size), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    sch = Schedule(te.create_prim_func([a, b, c]))
    block = sch.get_sblock("c")
    rows, columns, sums = sch.get_loops(block)
    (by, ty, i), (bx, tx, j) = (sch.split(loop, [None, 8, 4]) for loop in (rows, columns))
    outer, inner = sch.split(sums, [None, 16])
    sch.reorder(by, bx, ty, tx, outer, inner, i, j)
    sch.vectorize(j)
    for loop, thread in ((by, "blockIdx.y"), (bx, "blockIdx.x"), (ty, "threadIdx.y"), (tx, "threadIdx.x")):
        sch.bind(loop, thread)
    local = sch.cache_write(block, 0, "local")
    sch.reverse_compute_at(local, tx)
    for operand in range(2):
        copy = sch.cache_read(block, operand, scope)
        sch.compute_at(copy, outer)
        y, x, vector, _ = sch.split(sch.fuse(*sch.get_loops(copy)[-2:]), [8, 8, None, 1])
        sch.bind(y, "threadIdx.y")
        sch.bind(x, "threadIdx.x")
        sch.vectorize(vector)
    sch.decompose_reduction(block, outer)
    return sch.mod["main"]


def _operands(size: int = 64) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((size, size)).astype("float32") for _ in range(2)]


def _row_sums(threads: int) -> tirx.PrimFunc:
    """Sums over threads, for which TVM emits shuffles, and over warps by way of shared memory."""
    x = te.placeholder((5, 256), "float32", name="x")
    k = te.reduce_axis((0, 256), name="k")
    sch = Schedule(te.create_prim_func([x, te.compute((5,), lambda i: te.sum(x[i, k], axis=k), name="sums")]))
    rows, columns = sch.get_loops(sch.get_sblock("sums"))
    sch.bind(rows, "blockIdx.x")
    sch.bind(sch.split(columns, [None, threads])[1], "threadIdx.x")
    return sch.mod["main"]


def _elementwise(scalar: Callable, size: int = 64, dtype: str = "float32") -> tirx.PrimFunc:
    x = te.placeholder((size,), dtype, name="x")
    y = te.compute((size,), lambda i: scalar(x[i]), name="y")
    return _bound(te.create_prim_func([x, y]), ["y"])


def _bound(func: tirx.PrimFunc, stages: list[str]) -> tirx.PrimFunc:
    sch = Schedule(func)
    for stage in stages:
        block, thread = sch.split(sch.fuse(*sch.get_loops(sch.get_sblock(stage))), [None, 32])
        sch.bind(block, "blockIdx.x")
        sch.bind(thread, "threadIdx.x")
    return sch.mod["main"]


def _kernel(body: str, parameters: str = "const int* in, int* out") -> str:
    return f'extern "C" __global__ void k({parameters}) {{\n{body}\n}}'


def _run(
    body: str, data: np.ndarray, order: int = 0, threads: int = 32, results: int | None = None
) -> np.ndarray:
    """One block of a kernel from ``in`` to ``out``, both of the same type."""
    out = np.zeros(results or threads, data.dtype)
    name = {"int32": "int", "uint32": "unsigned", "float32": "float"}[data.dtype.name]
    source = _kernel(body, f"const {name}* in, {name}* out")
    run_source(source, "k", [np.ascontiguousarray(data), out], (1,), (threads,), order=order)
    return out


LANES = np.arange(32, dtype="int32")


@pytest.mark.parametrize("scope", ["shared", "shared.dyn"])
def test_a_tiled_matrix_product(scope: str) -> None:
    a, b = _operands()
    got = run_in_all_orders(_matmul(scope=scope), [a, b], (64, 64), "float32")
    assert_close(got, a @ b, 1e-6)  # sums of 64 in another order than BLAS


@pytest.mark.parametrize("threads", [16, 32, 64, 256])
def test_sums_over_threads(threads: int) -> None:
    x = np.random.default_rng(0).standard_normal((5, 256)).astype("float32")
    got = run_in_all_orders(_row_sums(threads), [x], (5,), "float32")
    assert_close(got, x.sum(1), 1e-6)  # sums of 256 in another order than NumPy


@pytest.mark.parametrize(
    ("scalar", "reference"),
    [
        (tirx.exp, np.exp),
        (tirx.tanh, np.tanh),
        (tirx.sqrt, np.sqrt),
        (tirx.rsqrt, lambda x: 1 / np.sqrt(x)),
        (tirx.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
        (tirx.log, np.log),
        (tirx.round, np.round),
        (tirx.floor, np.floor),
        (tirx.erf, None),
        (lambda x: tirx.max(x, 1.0), lambda x: np.maximum(x, 1)),
        (lambda x: tirx.min(x, 1.0), lambda x: np.minimum(x, 1)),
        (lambda x: tirx.call_pure_extern("float32", "__frcp_rn", x), lambda x: 1 / x),
    ],
)
def test_functions_of_floats(scalar: Callable, reference: Callable | None) -> None:
    x = np.linspace(0.25, 3, 64, dtype="float32")
    got = run_emulated(_elementwise(scalar), [x], (64,), "float32")
    if reference is None:
        torch = pytest.importorskip("torch")
        want = torch.erf(torch.from_numpy(x)).numpy()
    else:
        want = reference(x)
    assert_close(got, want, 1e-6)  # the last bits of two libraries of mathematics


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("__popc", lambda v: bin(v).count("1")),
        ("__clz", lambda v: 32 - v.bit_length()),
        ("__ffs", lambda v: (v & -v).bit_length()),
        ("__brev", lambda v: int(f"{v:032b}"[::-1], 2)),
    ],
)
def test_functions_of_bits(name: str, reference: Callable[[int], int]) -> None:
    x = np.random.default_rng(0).integers(0, 2**32, 64, dtype="uint32")
    x[:3] = 0, 1, 2**31
    func = _elementwise(lambda v: tirx.call_pure_extern("uint32", name, v), dtype="uint32")
    np.testing.assert_array_equal(run_emulated(func, [x], (64,), "uint32"), [reference(int(v)) for v in x])


def test_many_kernels_in_one_function() -> None:
    x = te.placeholder((4, 32), "float32", name="x")
    y = te.compute((4, 32), lambda i, j: x[i, j] + 1.0, name="y")
    z = te.compute((4, 32), lambda i, j: y[3 - i, 31 - j] * 2.0, name="z")
    func = _bound(te.create_prim_func([x, z]), ["y", "z"])
    data = np.arange(128, dtype="float32").reshape(4, 32)
    np.testing.assert_array_equal(
        run_in_all_orders(func, [data], (4, 32), "float32"), (data[::-1, ::-1] + 1) * 2
    )
    assert [(launch.grid, launch.block) for launch in launches(func)] == [((4, 1, 1), (32, 1, 1))] * 2


def test_launches_say_the_sizes_and_run_nothing() -> None:
    (launch,) = launches(_matmul(scope="shared.dyn"))
    assert launch == Launch("main_kernel", (2, 2, 1), (8, 8, 1), 2 * 32 * 16 * 4)


def test_a_helper_with_a_body_of_its_own_here() -> None:
    source = """
__device__ unsigned lane() {
#ifdef FASTCONV_EMULATOR
  return threadIdx.x % 32;
#else
  unsigned lane; asm("mov.u32 %0, %laneid;" : "=r"(lane)); return lane;
#endif
}
extern "C" __global__ void k(int* out, int add, float scale) { out[threadIdx.x] = (lane() + add) * scale; }"""
    out = np.zeros(64, "int32")
    run_source(source, "k", [out, 3, 2.0], (1,), (64,))
    np.testing.assert_array_equal(out, (np.arange(64) % 32 + 3) * 2)


@each_order
def test_grids_and_blocks_of_three_axes(order: int) -> None:
    body = """
  int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * 24 + thread] = thread + 100 * block;"""
    out = np.zeros((2 * 3 * 2, 24), "int32")
    run_source(_kernel(body, "int* out"), "k", [out], (2, 3, 2), (4, 3, 2), order=order)
    np.testing.assert_array_equal(out, np.arange(24) + 100 * np.arange(12)[:, None])


TRANSPOSE = """
  __shared__ alignas(64) int tile[32][33];
  for (int i = 0; i < 4; ++i) tile[threadIdx.y + 8 * i][threadIdx.x] = in[(threadIdx.y + 8 * i) * 32 + threadIdx.x];
  __syncthreads();
  for (int i = 0; i < 4; ++i) out[(threadIdx.y + 8 * i) * 32 + threadIdx.x] = tile[threadIdx.x][threadIdx.y + 8 * i];"""


def _transposed(body: str, order: int) -> np.ndarray:
    data, out = np.arange(1024, dtype="int32").reshape(32, 32), np.zeros((32, 32), "int32")
    run_source(_kernel(body), "k", [data, out], (1,), (32, 8), order=order)
    return out


@each_order
def test_transpose_by_way_of_shared_memory(order: int) -> None:
    np.testing.assert_array_equal(_transposed(TRANSPOSE, order), np.arange(1024).reshape(32, 32).T)


def test_orders_disagree_without_a_barrier() -> None:
    results = [_transposed(TRANSPOSE.replace("__syncthreads();", ""), order) for order in ORDERS]
    assert (results[0] != results[1]).any()
    assert all((result == -1).any() for result in results), "what nobody has written yet is poison"


def test_a_barrier_less_in_code_of_tvm() -> None:
    a, b = _operands()
    edit = lambda source: source.replace("__syncthreads();", "", 1)  # noqa: E731
    got = run_emulated(_matmul(), [a, b], (64, 64), "float32", source_edit=edit)
    assert not np.allclose(got, a @ b, atol=1)
    executable = emulate.compiled(_matmul())
    with (
        attach(executable, source_edit=edit) as session,
        pytest.raises(AssertionError, match="order 1 and 0 give results that differ"),
    ):
        in_all_orders(session, lambda: emulate.call(executable["main"], [a, b], (64, 64), "float32"))


def test_a_warp_runs_ahead_of_another() -> None:
    """Up to the next barrier of the block, whatever it waits for itself; not where even threads are first."""
    body = """
  __shared__ int came[2];
  int warp = threadIdx.x / 32;
  __syncwarp();
  came[warp] = in[threadIdx.x];
  __syncwarp();
  out[threadIdx.x] = came[1 - warp];"""
    seen = [_run(body, np.ones(64, "int32"), order, threads=64)[::32].tolist() for order in ORDERS]
    assert seen == [[-1, 1], [1, -1], [1, 1]]


def test_an_edit_that_changes_nothing_is_refused() -> None:
    with pytest.raises(EmulationError, match="changes nothing"):
        run_emulated(_matmul(), _operands(), (64, 64), "float32", source_edit=lambda source: source)


@pytest.mark.parametrize(
    ("expression", "want"),
    [
        ("__shfl_sync(~0u, in[lane], 5)", np.full(32, 5)),
        ("__shfl_sync(~0u, in[lane], lane + 1, 8)", LANES // 8 * 8 + (LANES + 1) % 8),
        ("__shfl_xor_sync(~0u, in[lane], 3)", LANES ^ 3),
        ("__shfl_xor_sync(~0u, in[lane], 8, 8)", np.where(LANES & 8, LANES ^ 8, LANES)),
        ("__shfl_up_sync(~0u, in[lane], 2)", np.where(LANES < 2, LANES, LANES - 2)),
        ("__shfl_down_sync(~0u, in[lane], 2, 16)", np.where(LANES % 16 < 14, LANES + 2, LANES)),
        ("__ballot_sync(~0u, in[lane] % 3 == 0)", np.full(32, int(np.sum(1 << np.arange(0, 32, 3))))),
        ("__any_sync(~0u, in[lane] == 7)", np.full(32, 1)),
        ("__all_sync(~0u, in[lane] < 31)", np.full(32, 0)),
        ("__reduce_add_sync(~0u, in[lane])", np.full(32, 496)),
        ("__reduce_max_sync(~0u, in[lane])", np.full(32, 31)),
        ("__reduce_min_sync(~0u, in[lane] - 9)", np.full(32, -9)),
        ("lane % 2 ? in[lane] : __reduce_add_sync(0x55555555, in[lane])", np.where(LANES % 2, LANES, 240)),
        ("__shfl_sync(1u << lane, in[lane], 4)", np.where(LANES == 4, 4, -1)),
    ],
)
@each_order
def test_warp_intrinsics(expression: str, want: np.ndarray, order: int) -> None:
    got = _run(f"int lane = threadIdx.x % 32;\nout[lane] = {expression};", LANES, order)
    np.testing.assert_array_equal(got, want.astype("int64").astype("int32"))


@each_order
def test_sum_of_two_warps_by_shuffles(order: int) -> None:
    body = """
  float sum = in[threadIdx.x];
  for (int by = 16; by; by /= 2) sum += __shfl_down_sync(~0u, sum, by);
  __shared__ float sums[2];
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) out[0] = sums[0] + sums[1];"""
    data = np.random.default_rng(0).integers(-9, 9, 64).astype("float32")
    assert _run(body, data, order, threads=64)[0] == data.sum()


def _bits(rng: np.random.Generator, rows: int) -> tuple[np.ndarray, np.ndarray]:
    bits = rng.integers(0, 2, (rows, 256), dtype="uint8")
    return bits.astype("int32"), np.packbits(bits, axis=1, bitorder="little").view("uint32")


@pytest.mark.parametrize("loads", ["registers", "ldmatrix"])
@each_order
def test_product_of_bits_on_tensor_cores(loads: str, order: int) -> None:
    body = {
        "registers": """
  for (int i = 0; i < 4; ++i) a[i] = in[(lane / 4 + i % 2 * 8) * 8 + lane % 4 + i / 2 * 4];
  for (int i = 0; i < 2; ++i) b[i] = in[128 + lane / 4 * 8 + lane % 4 + i * 4];""",
        "ldmatrix": """
  __shared__ alignas(16) unsigned rows[24 * 8];
  for (int i = lane; i < 24 * 8; i += 32) rows[i] = in[i];
  __syncwarp();
  fastconv_emulated::ldmatrix_x4(a, rows + (lane % 16) * 8 + lane / 16 * 4);
  fastconv_emulated::ldmatrix_x2(b, rows + 128 + lane % 8 * 8 + lane / 8 % 2 * 4);""",
    }[loads]
    body = f"""
  int lane = threadIdx.x, d[4];
  unsigned a[4], b[2];
  for (int i = 0; i < 4; ++i) d[i] = 1000;
{body}
  fastconv_emulated::bmma_and(d, a, b);
  for (int i = 0; i < 4; ++i) out[(lane / 4 + i / 2 * 8) * 8 + lane % 4 * 2 + i % 2] = d[i];"""
    rng = np.random.default_rng(0)
    (a, a_words), (b, b_words) = _bits(rng, 16), _bits(rng, 8)
    got = _run(body, np.concatenate([a_words, b_words]), order, results=128)
    np.testing.assert_array_equal(got.reshape(16, 8), a @ b.T + 1000)


def _tf32_product(load: str) -> str:
    """A product of 16 rows of eight numbers by eight columns, each row in front of the other."""
    return f"""
  int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  float d[4];
  unsigned a[4], b[2];
  for (int i = 0; i < 4; ++i) d[i] = 1000;
  for (int i = 0; i < 4; ++i) a[i] = {load}(in[(g + i % 2 * 8) * 8 + t + i / 2 * 4]);
  for (int i = 0; i < 2; ++i) b[i] = {load}(in[128 + g * 8 + t + i * 4]);
  fastconv_emulated::tf32_mma(d, a, b);
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = d[i];"""


@each_order
def test_product_of_tf32_on_tensor_cores(order: int) -> None:
    numbers = np.random.default_rng(0).standard_normal((24, 8), np.float32)
    got = _run(_tf32_product("fastconv_emulated::tf32"), numbers, order, results=128).reshape(16, 8)
    rounded = round_to_tf32(numbers).astype(np.float64)
    assert_close(got, rounded[:16] @ rounded[16:].T + 1000, 3e-7)  # eight additions to 1000 in float32


def test_what_is_no_tf32_is_an_error() -> None:
    with pytest.raises(EmulationError, match="is no TF32"):
        _run(_tf32_product("__float_as_uint"), np.full((24, 8), 1 / 3, np.float32), results=128)


def test_rounding_to_tf32() -> None:
    """To the nearest, ties away from zero: 2⁻¹¹ and three times that lie in the middle."""
    x = [
        1 + 2**-11,
        1 + 3 * 2**-11,
        1 + 2**-12,
        -1 - 2**-11,
        2 - 2**-23,
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        3e38,
        1e-40,
    ]
    numbers = np.resize(np.array(x, np.float32), 32)
    got = _run("out[threadIdx.x] = __uint_as_float(fastconv_emulated::tf32(in[threadIdx.x]));", numbers)
    np.testing.assert_array_equal(got, round_to_tf32(numbers))
    want = [1 + 2**-10, 1 + 2**-9, 1, -1 - 2**-10, 2, 0, 0, np.inf, -np.inf, np.nan]
    np.testing.assert_array_equal(got[: len(want)], np.array(want, np.float32))


PIPELINE = """
  __shared__ alignas(16) int stage[2][128];
  int t = threadIdx.x;
  for (int i = 0; i < 2; ++i) {
    fastconv_emulated::cp_async_16(stage[i] + 4 * t, in + 128 * i + 4 * t, i == 0 || t < 16);
    fastconv_emulated::cp_async_commit();
  }
  fastconv_emulated::cp_async_wait(WAIT);
  __syncthreads();
  for (int i = 0; i < 2; ++i) for (int j = 0; j < 4; ++j) out[128 * i + t + 32 * j] = stage[i][127 - (t + 32 * j)];"""


@each_order
def test_asynchronous_copies_arrive_when_waited_for(order: int) -> None:
    data = np.arange(256, dtype="int32").reshape(2, 128)
    want = np.where([[True], [False]] | (np.arange(128) < 64), data, 0)[:, ::-1]
    got = [_run(PIPELINE.replace("WAIT", str(n)), data, order, results=256).reshape(2, 128) for n in range(3)]
    np.testing.assert_array_equal(got[0], want)
    np.testing.assert_array_equal(got[1], [want[0], np.full(128, -1)])
    np.testing.assert_array_equal(got[2], np.full((2, 128), -1))


@each_order
def test_asynchronous_copies_of_others_need_a_barrier(order: int) -> None:
    source = PIPELINE.replace("WAIT", "0").replace("__syncthreads();", "")
    assert (_run(source, np.arange(256, dtype="int32"), order, results=256) == -1).any()


@each_order
def test_shared_memory_is_poisoned_for_every_block(order: int) -> None:
    body = """
  extern __shared__ __align__(16) int dynamic[];
  __shared__ alignas(64) float fixed[32];
  out[blockIdx.x * 64 + threadIdx.x] = dynamic[threadIdx.x];
  out[blockIdx.x * 64 + 32 + threadIdx.x] = __float_as_int(fixed[threadIdx.x]);
  dynamic[threadIdx.x] = fixed[threadIdx.x] = 7;"""
    out = np.zeros(192, "int32")
    run_source(_kernel(body, "int* out"), "k", [out], (3,), (32,), shared_bytes=128, order=order)
    np.testing.assert_array_equal(out, np.full(192, -1))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "if (threadIdx.x < 8) __syncthreads();",
            r"block \(0, 0, 0\): divergent barrier: 8 of 32 threads reach __syncthreads of line 2, 24 have returned\n"
            r" +2 \| if \(threadIdx.x < 8\)",
        ),
        (
            "if (threadIdx.x < 8) {\n__syncthreads();\n} else {\n__syncthreads();\n}",
            r"__syncthreads of line 3 and of line 5",
        ),
        ("if (threadIdx.x < 31) __syncwarp(); else __syncthreads();", "divergent"),
        (
            "if (threadIdx.x) __syncwarp(1);",
            r"thread \(1, 0, 0\): line 2: lane 1 is not in its own mask 00000001",
        ),
        ("int i = in[threadIdx.x]; out[0] = ((const int4*)(in + i))->x;", "line 2: misaligned address"),
        (
            "__shared__ int s[32]; s[in[threadIdx.x] + 1] = 0; out[0] = s[2];",
            "line 2: index 32 outside of the array",
        ),
        (
            "int d[4]; unsigned r[4];\nif (threadIdx.x < 9) fastconv_emulated::bmma_and(d, r, r);",
            "only 000001ff are there",
        ),
        (
            "unsigned r[4]; fastconv_emulated::ldmatrix_x4(r, in);",
            "a row of ldmatrix outside of the shared memory",
        ),
        (
            "__shared__ alignas(16) int s[32]; fastconv_emulated::cp_async_16(s + threadIdx.x, in);",
            r"thread \(1, 0, 0\): line 2: the target of cp.async is not aligned to 16 bytes",
        ),
        (
            "extern __shared__ int s[];\ns[threadIdx.x + 1] = 0;",
            "wrote past its 128 bytes of dynamic shared memory",
        ),
        (
            "__shared__ int s[12289]; out[0] = s[in[0]];",
            "49156 static and 128 dynamic bytes of shared memory",
        ),
    ],
)
def test_what_cuda_forbids_is_an_error(body: str, message: str) -> None:
    with pytest.raises(EmulationError, match=message):
        run_source(_kernel(body), "k", [LANES, np.zeros(32, "int32")], (1,), (32,), shared_bytes=128)


@pytest.mark.parametrize("block", [(1025,), (1, 1, 65), (0,)])
def test_a_block_that_does_not_fit_is_an_error(block: tuple[int, ...]) -> None:
    with pytest.raises(EmulationError, match="a block of"):
        run_source(_kernel(""), "k", [LANES, LANES], (1,), block)


def test_after_an_error_the_next_launch_works() -> None:
    with pytest.raises(EmulationError, match="divergent"):
        _run("if (threadIdx.x < 8) __syncthreads();", LANES)
    np.testing.assert_array_equal(_run("__syncthreads(); out[threadIdx.x] = in[threadIdx.x];", LANES), LANES)


def test_errors_pass_through_code_of_tvm() -> None:
    edit = lambda source: source.replace("__syncthreads();", "if (threadIdx.x) __syncthreads();", 1)  # noqa: E731
    with pytest.raises(EmulationError, match=r"(?s)main_kernel: .*divergent barrier.*\| if \(threadIdx.x\)"):
        run_emulated(_matmul(), _operands(), (64, 64), "float32", source_edit=edit)


def test_errors_of_the_compiler_show_the_line() -> None:
    with pytest.raises(EmulationError, match=r"(?s)g\+\+ on the CUDA source.*out\[0\] = nothing;"):
        _run("out[0] = nothing;", LANES)


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("c_ptr[-1] = 0; c_ptr[", "what lies around the result, at byte -4"),
        ("a_ptr[5] = 0; c_ptr[", "input 0"),
    ],
)
def test_writes_outside_of_the_result_are_an_error(store: str, message: str) -> None:
    edit = lambda source: re.sub(r"\bc_ptr\[", store, source, count=1)  # noqa: E731
    with pytest.raises(EmulationError, match=message):
        run_emulated(_matmul(), _operands(), (64, 64), "float32", source_edit=edit)


def test_what_is_not_written_is_poison() -> None:
    edit = lambda source: source.replace("y_ptr[", "if (blockIdx.x) y_ptr[")  # noqa: E731
    got = run_emulated(
        _elementwise(lambda v: v), [np.zeros(64, "float32")], (64,), "float32", source_edit=edit
    )
    np.testing.assert_array_equal(np.isnan(got), np.arange(64) < 32)


def _network() -> relax.VirtualMachine:
    """``softmax(x · w)``, by the schedules that TVM has for GPUs."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((tirx.Var("n", "int64"), 64), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(relax.op.matmul(x, relax.const(_operands()[0])))
            result = builder.emit_output(relax.op.nn.softmax(y))
        builder.emit_func_output(result)
    with TARGET:
        pipeline = relax.backend.cuda.pipeline.get_default_pipeline(TARGET)
        return tvm.compile(builder.get(), target=TARGET, relax_pipeline=pipeline)


@pytest.mark.parametrize("batch", [3, 7])
def test_a_network_of_any_batch(batch: int) -> None:
    executable = _network()
    x = _operands()[1][:batch]
    with attach(executable) as session:
        vm = relax.VirtualMachine(executable, tvm.cpu())
        got = in_all_orders(session, lambda: vm["main"](tvm.runtime.tensor(x)).numpy())
    products = np.exp(x @ _operands()[0] - 8)
    assert_close(
        got, products / products.sum(1, keepdims=True), 1e-5
    )  # exponents of sums of 64 in another order
    assert len(session.launches) >= 2 * len(ORDERS)


def test_names_of_kernels_are_given_back() -> None:
    before = tvm_ffi.get_global_func("__tvm_set_device", allow_missing=True)
    first, second = (emulate.compiled(_matmul()) for _ in range(2))
    with attach(first):
        assert tvm_ffi.get_global_func("main_kernel", allow_missing=True) is not None
        with pytest.raises(EmulationError, match=r"the same names: \['main_kernel'\]"), attach(second):
            pass
    assert tvm_ffi.get_global_func("main_kernel", allow_missing=True) is None
    after = tvm_ffi.get_global_func("__tvm_set_device", allow_missing=True)
    assert before is None or before.same_as(after)
    with pytest.raises(EmulationError, match="attached before"), attach(first):
        pass


def test_stacks_switched_by_the_system_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_library, "FLAGS", [*kernel_library.FLAGS, "-DFASTCONV_UCONTEXT"])
    np.testing.assert_array_equal(_transposed(TRANSPOSE, 1), np.arange(1024).reshape(32, 32).T)


def test_the_header_needs_nothing_of_cuda() -> None:
    command = ["g++", "-std=c++17", "-M", "-x", "c++", str(kernel_library.HEADER)]
    used = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "cuda" not in used.replace(str(kernel_library.HEADER), "").replace("tests/cuda", "")
