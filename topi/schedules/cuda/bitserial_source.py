"""CUDA source of the tile of sums of a bitserial convolution: every thread of a block calls it, all meet at its end.

Words of the reduction stand in one row, tap after tap. On the tensor cores, output channels are the rows of a product
and pixels its columns. Which words and which channels a thread holds is free: neighbours, so that what it loads are
vectors, and stand in the registers in the order of the instruction. Both operands come from L1: those of a binary layer
are small, its results large.
"""

import zlib
from dataclasses import dataclass
from math import gcd

from .binary_mma import BMMA
from .conv_geometry import ConvGeometry


@dataclass(frozen=True, kw_only=True)
class BitserialTile(ConvGeometry):
    """Geometry of a convolution of packed words, as the device function needs it.

    Attributes
    ----------
    words : int
        Of one digit of one group's channels.
    groups, digits : int
    units : tuple of int
        u of each weight plane.
    """

    words: int
    groups: int
    digits: int
    units: tuple[int, ...]

    @property
    def constants(self) -> dict[str, int]:
        """By their names in the source."""
        sizes = {
            "per_digit": self.words,
            "groups": self.groups,
            "digits": self.digits,
            "planes": len(self.units),
        }
        taps = self.kernel[0] * self.kernel[1] * self.words
        return (
            self.pairs() | sizes | {"row_words": taps, "pixel_words": self.groups * self.digits * self.words}
        )


_COMMON = r"""
#ifndef FASTCONV_WORDS
#define FASTCONV_WORDS
// Neighbouring words of memory, as wide as their number allows.
template <int N>
__device__ __forceinline__ void fastconv_words(unsigned* to, const unsigned* from) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      const uint4 v = *reinterpret_cast<const uint4*>(from + i);
      to[i] = v.x; to[i + 1] = v.y; to[i + 2] = v.z; to[i + 3] = v.w;
    }
  } else if constexpr (N % 2 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
      const uint2 v = *reinterpret_cast<const uint2*>(from + i);
      to[i] = v.x; to[i + 1] = v.y;
    }
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = from[i];
  }
}
// An element of a constant array, without making memory of it.
template <int N>
__device__ __forceinline__ int fastconv_unit(int at, const int (&units)[N]) {
  int unit = units[0];
#pragma unroll
  for (int i = 1; i < N; ++i)
    if (at == i) unit = units[i];
  return unit;
}
template <int N>
__device__ __forceinline__ void fastconv_store(int* to, const int* from) {
  if constexpr (N % 4 == 0) {
#pragma unroll
    for (int i = 0; i < N; i += 4)
      *reinterpret_cast<int4*>(to + i) = make_int4(from[i], from[i + 1], from[i + 2], from[i + 3]);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) to[i] = from[i];
  }
}
#endif
"""

_HEAD = r"""
__device__ __forceinline__ void @name@(void* __restrict__ sums, const void* __restrict__ activations,
    const void* __restrict__ weights, const int first, const int column, const int pixels) {
@constants@
  constexpr int unit[] = {@units@};
  const int group = groups == 1 ? 0 : column / panels_per_group;
  int* tile = static_cast<int*>(sums);
  const unsigned* words = static_cast<const unsigned*>(activations) + group * (digits * per_digit);
  const unsigned* weight = static_cast<const unsigned*>(weights) + column * (row_words * planes * panel);
"""

# A pixel behind the last has its window outside the plane.
_PIXEL = r"""
    const int b = pixel / (out_plane_y * out_plane_x), in = pixel % (out_plane_y * out_plane_x);
    y0[r] = pixel < pixels ? in / out_plane_x * stride_y - padding_y : -(1 << 28);
    x0[r] = in % out_plane_x * stride_x - padding_x;
    at[r] = ((b * plane_y + y0[r]) * plane_x + x0[r]) * pixel_words;
"""

_TAP = r"""
          const int tap = l / per_digit, dy = tap / kernel_x * dilation_y, dx = tap % kernel_x * dilation_x;
          const int shift = (dy * plane_x + dx) * pixel_words + i * per_digit + l % per_digit;
"""

_MMA = (
    _HEAD
    + r"""
  constexpr int sixteens = panel / 16, eights = 2 * rows, span = per_thread < 2 ? 2 : per_thread;
  constexpr int steps = (row_words + 4 * span - 1) / (4 * span);
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3, row = (threadIdx.x >> 5) * (8 * eights);
  int y0[eights], x0[eights], at[eights];
#pragma unroll
  for (int r = 0; r < eights; ++r) {
    const int pixel = first + row + 8 * r + g;
"""
    + _PIXEL
    + r"""
  }
  int sum[eights][sixteens][4];
#pragma unroll
  for (int r = 0; r < eights; ++r)
#pragma unroll
    for (int j = 0; j < sixteens; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[r][j][e] = 0;
  const unsigned every[4] = {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
#pragma unroll 1
  for (int i = 0; i < digits; ++i) {
#pragma unroll 1
    for (int p = 0; p < planes; ++p) {
      const int scale = fastconv_unit(p, unit) << i;
      int common[eights][sixteens][4], ones[eights][4];
#pragma unroll
      for (int r = 0; r < eights; ++r)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          ones[r][e] = 0;
#pragma unroll
          for (int j = 0; j < sixteens; ++j) common[r][j][e] = 0;
        }
#pragma unroll (steps > 4 ? 2 : steps)
      for (int s = 0; s < steps; ++s) {
        unsigned a[eights][span], w[sixteens][2 * span];
#pragma unroll
        for (int v = 0; v < span; v += per_thread) {
          const int l = (s * 4 + t) * span + v;
          const bool inside = row_words % (4 * span) == 0 || l < row_words;
"""
    + _TAP
    + r"""
#pragma unroll
          for (int r = 0; r < eights; ++r) {
            const bool in = inside & (unsigned(y0[r] + dy) < plane_y) & (unsigned(x0[r] + dx) < plane_x);
#pragma unroll
            for (int u = 0; u < per_thread; ++u) a[r][v + u] = 0;
            if (in) fastconv_words<per_thread>(a[r] + v, words + (at[r] + shift));
          }
#pragma unroll
          for (int u = 0; u < per_thread; ++u) {
            const unsigned* from = weight + (((inside ? l + u : 0) * planes + p) * panel + 2 * g);
#pragma unroll
            for (int j = 0; j < sixteens; ++j) fastconv_words<2>(w[j] + 2 * (v + u), from + 16 * j);
          }
        }
#pragma unroll
        for (int v = 0; v < span; v += 2)
#pragma unroll
          for (int r = 0; r < eights; ++r) {
            fastconv_bmma(ones[r], every, a[r] + v);
#pragma unroll
            for (int j = 0; j < sixteens; ++j) fastconv_bmma(common[r][j], w[j] + 2 * v, a[r] + v);
          }
      }
#pragma unroll
      for (int r = 0; r < eights; ++r)
#pragma unroll
        for (int j = 0; j < sixteens; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            sum[r][j][e] += scale * (ones[r][e & 1] - 2 * common[r][j][e]);
    }
  }
#pragma unroll
  for (int r = 0; r < eights; ++r)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      int* to = tile + (row + 8 * r + 2 * t + e) * pitch + 2 * g;
#pragma unroll
      for (int j = 0; j < sixteens; ++j)
        *reinterpret_cast<int2*>(to + 16 * j) = make_int2(sum[r][j][e], sum[r][j][2 + e]);
    }
  __syncthreads();
}
"""
)

_POPC = (
    _HEAD
    + r"""
  constexpr int across = panel / columns, down = threads / across;
  const int c = threadIdx.x % across * columns, row = threadIdx.x / across;
  int y0[rows], x0[rows], at[rows];
#pragma unroll
  for (int r = 0; r < rows; ++r) {
    const int pixel = first + row + down * r;
"""
    + _PIXEL
    + r"""
  }
  int sum[rows][columns];
#pragma unroll
  for (int r = 0; r < rows; ++r)
#pragma unroll
    for (int j = 0; j < columns; ++j) sum[r][j] = 0;
#pragma unroll 1
  for (int i = 0; i < digits; ++i)
#pragma unroll 1
    for (int p = 0; p < planes; ++p) {
      const int scale = fastconv_unit(p, unit) << i;
#pragma unroll 1
      for (int tap = 0; tap < kernel_y * kernel_x; ++tap) {
        const int dy = tap / kernel_x * dilation_y, dx = tap % kernel_x * dilation_x;
        const int shift = (dy * plane_x + dx) * pixel_words + i * per_digit;
        bool in[rows];
#pragma unroll
        for (int r = 0; r < rows; ++r) in[r] = unsigned(y0[r] + dy) < plane_y && unsigned(x0[r] + dx) < plane_x;
#pragma unroll 2
        for (int l = 0; l < per_digit; l += per_thread) {
          unsigned a[rows][per_thread];
#pragma unroll
          for (int r = 0; r < rows; ++r) {
#pragma unroll
            for (int u = 0; u < per_thread; ++u) a[r][u] = 0;
            if (in[r]) fastconv_words<per_thread>(a[r], words + (at[r] + shift + l));
          }
#pragma unroll
          for (int u = 0; u < per_thread; ++u) {
            unsigned w[columns];
            fastconv_words<columns>(w, weight + (((tap * per_digit + l + u) * planes + p) * panel + c));
#pragma unroll
            for (int r = 0; r < rows; ++r)
#pragma unroll
              for (int j = 0; j < columns; ++j) sum[r][j] += scale * __popc(a[r][u] ^ w[j]);
          }
        }
      }
    }
#pragma unroll
  for (int r = 0; r < rows; ++r)
    fastconv_store<columns>(tile + (row + down * r) * pitch + c, sum[r]);
  __syncthreads();
}
"""
)


def tile_source(tile: BitserialTile, sizes: dict[str, int], mma: bool) -> tuple[str, str]:
    """Name and source of the device function.

    It is called with the tile in shared memory, the packed words and weights, the first pixel of the block, the panel
    of its output channels, and the pixels of the whole batch.

    Parameters
    ----------
    sizes : dict
        What the tile is besides: ``panel``, ``rows``, ``pitch``, ``panels_per_group`` and, without tensor cores,
        ``columns`` and ``threads``.
    mma : bool
        Whether it multiplies on the tensor cores; it then sums ``popc(a) - 2 popc(a & w)``, not the differing bits.
    """
    constants = tile.constants | sizes | {"per_thread": gcd(tile.words, 4)}
    lines = [f"  constexpr int {key} = {value};" for key, value in constants.items()]
    body = (_MMA if mma else _POPC).replace("@constants@", "\n".join(lines))
    body = body.replace("@units@", ", ".join(map(str, tile.units)))
    name = f"fastconv_sums_{zlib.crc32(body.encode()):08x}"
    guarded = f"#ifndef {name}_\n#define {name}_\n{body}#endif\n"
    return name, BMMA + _COMMON + guarded.replace("@name@", name)
