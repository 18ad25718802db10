"""CUDA source of a tile of sums of a convolution in TF32: every thread of a block calls it, all meet at its end.

Pixels of the result times taps and channels, by taps and channels times output channels (implicit GEMM). Both sides
come into shared memory some steps ahead (``cp.async``), sixteen terms of every row side by side. Which terms a lane
multiplies is free, as long as both sides agree: four neighbours of each sixteen, so that it loads vectors, and eight
lanes read all banks. Weights lie in memory in the order in which the lanes of a warp read them, and are rounded;
activations are rounded in registers.
"""

import zlib
from dataclasses import dataclass
from math import gcd

from .async_copies import COPIES
from .conv_geometry import ConvGeometry
from .tf32_mma import TF32_MMA


@dataclass(frozen=True, kw_only=True)
class Tf32Tile(ConvGeometry):
    """Geometry of a convolution of one group, NHWC, as the device function needs it.

    Attributes
    ----------
    input_dilation : tuple of int
        (height, width)
    channels : int
    """

    input_dilation: tuple[int, int]
    channels: int

    @property
    def terms(self) -> int:
        """Of a sum: taps times channels."""
        return self.kernel[0] * self.kernel[1] * self.channels

    @property
    def constants(self) -> dict[str, int]:
        """By their names in the source."""
        sizes = {"channels": self.channels, "terms": self.terms, "words": words_of(self.channels)}
        return self.pairs(["input_dilation"]) | sizes


def words_of(channels: int) -> int:
    """Neighbouring floats of a pixel that are copied together."""
    return gcd(channels, 4)


_TILE = r"""
__device__ __forceinline__ void @name@(void* sums, const void* __restrict__ activations,
    const void* __restrict__ weights, const int first, const int column, const int slice, const int pixels) {
@constants@
  constexpr int pieces = tile_k / words, piece_rows = threads / pieces, held = tile_m / piece_rows;
  constexpr int sixteens = tile_k / 16, left = tile_m * tile_k, stage_floats = left + tile_o * tile_k;
  float* const place = static_cast<float*>(sums);
  const float* const data = static_cast<const float*>(activations);
  const float* const weight = static_cast<const float*>(weights) + (long long)column * steps * (tile_o * tile_k);
  // A thread copies the same place of a step of some pixels; one behind the last has its window outside the plane.
  const int piece = threadIdx.x % pieces * words, piece_row = threadIdx.x / pieces;
  const int sixteen = piece / 16, mine = (sixteen * tile_m + (piece_row ^ sixteen)) * 16 + piece % 16;
  const float* at[held];
  int y0[held], x0[held];
#pragma unroll
  for (int r = 0; r < held; ++r) {
    const int pixel = first + piece_row + piece_rows * r;
    const int b = pixel / (out_plane_y * out_plane_x), in = pixel % (out_plane_y * out_plane_x);
    y0[r] = pixel < pixels ? in / out_plane_x * stride_y - padding_y : -(1 << 28);
    x0[r] = in % out_plane_x * stride_x - padding_x;
    at[r] = data + (long long)b * (plane_y * plane_x * channels);
  }
  int ahead = slice * per_slice;
  const int last = ahead + per_slice;
  const auto copy = [&](int stage) {
    if (ahead < last) {
      float* const to = place + stage * stage_floats;
      const int k = ahead * tile_k + piece, tap = k / channels, channel = k % channels;
      const int dy = tap / kernel_x * dilation_y, dx = tap % kernel_x * dilation_x;
#pragma unroll
      for (int r = 0; r < held; ++r) {
        const int y = y0[r] + dy, x = x0[r] + dx;
        const bool inside = (terms % tile_k == 0 || k < terms) & (y >= 0) & (x >= 0) &
            (y < (plane_y - 1) * input_dilation_y + 1) & (x < (plane_x - 1) * input_dilation_x + 1) &
            (y % input_dilation_y == 0) & (x % input_dilation_x == 0);
        const int shift = (y / input_dilation_y * plane_x + x / input_dilation_x) * channels + channel;
        fastconv_copy_inside<4 * words>(to + mine + piece_rows * 16 * r, inside ? at[r] + shift : data, inside);
      }
      const float* const from = weight + (long long)ahead * (tile_o * tile_k);
#pragma unroll
      for (int i = 0; i < tile_o * tile_k; i += 4 * threads)
        fastconv_copy_16(to + left + i + 4 * threadIdx.x, from + i + 4 * threadIdx.x);
      ++ahead;
    }
    fastconv_end_copies();
  };
#pragma unroll
  for (int stage = 0; stage < stages - 1; ++stage) copy(stage);
  constexpr int rows = part_m / 16, eights = part_o / 8, across = tile_o / part_o;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int from_row = warp / across * part_m, from_column = warp % across * part_o;
  float sum[rows][eights][4];
#pragma unroll
  for (int r = 0; r < rows; ++r)
#pragma unroll
    for (int j = 0; j < eights; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[r][j][e] = 0.0f;
  int stage = 0;
#pragma unroll 1
  for (int step = 0; step < per_slice; ++step) {
    fastconv_await_copies<stages - 2>();
    __syncthreads();
    copy(stage == 0 ? stages - 1 : stage - 1);
    const float* const a = place + stage * stage_floats + 4 * t;
    const float* const w = place + stage * stage_floats + left + (from_column / 8 * 32 + lane) * 4;
    stage = stage == stages - 1 ? 0 : stage + 1;
#pragma unroll
    for (int c = 0; c < sixteens; ++c) {
      unsigned v[eights][4];
#pragma unroll
      for (int j = 0; j < eights; ++j) {
        const uint4 from = *reinterpret_cast<const uint4*>(w + (c * (tile_o / 8) + j) * 128);
        v[j][0] = from.x; v[j][1] = from.y; v[j][2] = from.z; v[j][3] = from.w;
      }
#pragma unroll
      for (int r = 0; r < rows; ++r) {
        const float* const from = a + (c * tile_m + from_row + 16 * r + (g ^ c)) * 16;
        const float4 low = *reinterpret_cast<const float4*>(from);
        const float4 high = *reinterpret_cast<const float4*>(from + 8 * 16);
        const unsigned u[8] = {
            fastconv_tf32(low.x), fastconv_tf32(high.x), fastconv_tf32(low.y), fastconv_tf32(high.y),
            fastconv_tf32(low.z), fastconv_tf32(high.z), fastconv_tf32(low.w), fastconv_tf32(high.w)};
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int j = 0; j < eights; ++j) fastconv_tf32_mma(sum[r][j], u + 4 * half, v[j] + 2 * half);
      }
    }
  }
  __syncthreads();
  // The sums lie where the steps lay.
#pragma unroll
  for (int r = 0; r < rows; ++r)
#pragma unroll
    for (int j = 0; j < eights; ++j) {
      float* const to = place + (from_row + 16 * r + g) * pitch + from_column + 8 * j + 2 * t;
      *reinterpret_cast<float2*>(to) = make_float2(sum[r][j][0], sum[r][j][1]);
      *reinterpret_cast<float2*>(to + 8 * pitch) = make_float2(sum[r][j][2], sum[r][j][3]);
    }
  __syncthreads();
}
"""


def tile_source(tile: Tf32Tile, sizes: dict[str, int]) -> tuple[str, str]:
    """Name and source of the device function.

    It is called with the shared memory of the block, where it leaves the sums, the activations, the weights in the
    order of `tf32_conv2d.pack_tf32_weight`, the first pixel of the block, the panel of its output channels, the slice
    of the terms, and the pixels of the whole batch.

    Parameters
    ----------
    sizes : dict
        ``tile_m``, ``tile_o``, ``tile_k``, ``part_m``, ``part_o``, ``stages``, ``threads``, ``pitch``, the floats
        between two rows of sums, and ``steps``, ``per_slice``, of all slices and of one.
    """
    lines = [f"  constexpr int {key} = {value};" for key, value in (tile.constants | sizes).items()]
    body = _TILE.replace("@constants@", "\n".join(lines))
    name = f"fastconv_tf32_sums_{zlib.crc32(body.encode()):08x}"
    guarded = f"#ifndef {name}_\n#define {name}_\n{body}#endif\n"
    return name, TF32_MMA + COPIES + guarded.replace("@name@", name)
