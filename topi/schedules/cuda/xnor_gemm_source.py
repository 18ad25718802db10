"""CUDA source of the product of signs: packing of rows and of columns, counting of ones, and the product itself.

The product moves tiles of both sides into shared memory, 1024 bits of every row at a time, some steps ahead
(``cp.async``). A row of such a tile is eight vectors of 16 bytes, whose order depends on the row: what eight lanes of
``ldmatrix`` read then lies in different banks.
"""

from .async_copies import COPIES
from .binary_mma import BMMA

_LDMATRIX = r"""
#ifndef FASTCONV_LDMATRIX
#define FASTCONV_LDMATRIX
__device__ __forceinline__ void fastconv_ldmatrix(unsigned* to, const void* row) {
#if defined(FASTCONV_EMULATOR)
  fastconv_emulated::ldmatrix_x4(to, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
#endif
}
#endif
"""

PACK_ROWS = r"""
#ifndef FASTCONV_SIGN_ROWS
#define FASTCONV_SIGN_ROWS
// A warp packs the signs of a row of k numbers into whole lines of 32 words, and counts its ones.
__device__ __forceinline__ void fastconv_sign_rows(const void* numbers, void* words, void* ones, int k, int rows) {
  const int lane = threadIdx.x & 31, row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= rows) return;
  const float* from = static_cast<const float*>(numbers) + (long long)row * k;
  const int lines = (k + 1023) / 1024;
  unsigned* to = static_cast<unsigned*>(words) + (long long)row * lines * 32;
  int count = 0;
  for (int line = 0; line < lines; ++line, from += 1024) {
    const int left = k - line * 1024;
    unsigned mine = 0;
#pragma unroll
    for (int first = 0; first < 32; first += 16) {
      float held[16];
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const int at = (first + i) * 32 + lane;
        held[i] = at < left ? from[at] : -1.0f;
      }
#pragma unroll
      for (int i = 0; i < 16; ++i) {
        const unsigned word = __ballot_sync(0xffffffffu, held[i] >= 0.0f);
        if (lane == first + i) mine = word;
      }
    }
    to[line * 32 + lane] = mine;
    count += __popc(mine);
  }
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) count += __shfl_xor_sync(0xffffffffu, count, step);
  if (lane == 0) static_cast<int*>(ones)[row] = count;
}
#endif
"""
"""``fastconv_sign_rows(numbers, words, ones, k, rows)`` in blocks of any number of warps, one for each row."""

PACK_COLUMNS = r"""
#ifndef FASTCONV_SIGN_COLUMNS
#define FASTCONV_SIGN_COLUMNS
// A block packs the signs of 32 columns of k numbers: a warp a word of each, of which shared memory makes rows.
__device__ __forceinline__ void fastconv_sign_columns(
    const void* numbers, void* words, void* ones, void* shared, int k, int columns) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int column = blockIdx.x * 32 + lane, lines = (k + 1023) / 1024;
  const float* from = static_cast<const float*>(numbers) + column;
  unsigned* square = static_cast<unsigned*>(shared);
  for (int line = 0; line < lines; ++line) {
    for (int place = warp; place < 32; place += warps) {
      const int first = (line * 32 + place) * 32;
      unsigned word = 0;
      float held[32];
#pragma unroll
      for (int i = 0; i < 32; ++i)
        held[i] = column < columns && first + i < k ? from[(long long)(first + i) * columns] : -1.0f;
#pragma unroll
      for (int i = 0; i < 32; ++i) word |= (held[i] >= 0.0f ? 1u : 0u) << i;
      square[lane * 33 + place] = word;
    }
    __syncthreads();
    for (int place = warp; place < 32; place += warps) {
      const int to = blockIdx.x * 32 + place;
      const unsigned word = square[place * 33 + lane];
      int count = __popc(word);
#pragma unroll
      for (int step = 16; step > 0; step >>= 1) count += __shfl_xor_sync(0xffffffffu, count, step);
      if (to < columns) {
        static_cast<unsigned*>(words)[((long long)to * lines + line) * 32 + lane] = word;
        if (lane == 0) static_cast<int*>(ones)[to] = line ? static_cast<int*>(ones)[to] + count : count;
      }
    }
    __syncthreads();
  }
}
#endif
"""
"""``fastconv_sign_columns(numbers, words, ones, shared, k, columns)``; ``shared`` has 32 · 33 words."""

COUNT_ONES = r"""
#ifndef FASTCONV_COUNT_ONES
#define FASTCONV_COUNT_ONES
// A warp counts the ones of a row, of either side, of lines of 32 words.
__device__ __forceinline__ void fastconv_count_ones(
    const void* left, const void* right, void* left_ones, void* right_ones, int lines, int m, int n) {
  const int lane = threadIdx.x & 31, at = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (at >= m + n) return;
  const int row = at < m ? at : at - m;
  const unsigned* from = static_cast<const unsigned*>(at < m ? left : right) + (long long)row * lines * 32 + lane;
  int count = 0;
#pragma unroll 8
  for (int line = 0; line < lines; ++line) count += __popc(from[line * 32]);
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) count += __shfl_xor_sync(0xffffffffu, count, step);
  if (lane == 0) static_cast<int*>(at < m ? left_ones : right_ones)[row] = count;
}
#endif
"""

_PRODUCT_HEAD = r"""
#ifndef @name@_
#define @name@_
__device__ __forceinline__ void @name@(const void* left, const void* right, const void* left_ones,
    const void* right_ones, void* result, void* shared, int m) {
  constexpr int tile_m = @tile_m@, tile_n = @tile_n@, part_m = @part_m@, part_n = @part_n@, stages = @stages@;
  constexpr int k = @inner@, n = @columns@, steps = (k + 1023) / 1024, tiles_n = (n + tile_n - 1) / tile_n;
  constexpr int threads = @threads@, vectors = (tile_m + tile_n) * 8, stage_bytes = vectors * 16;
  const int tiles_m = (m + tile_m - 1) / tile_m, tiles = tiles_m * tiles_n;
  char* const place = static_cast<char*>(shared);
  // Eight rows of tiles at a time: blocks that run together share both sides in L2.
  const auto row_of = [&](int tile) {
    const int band = tile / (8 * tiles_n), high = tiles_m - band * 8 < 8 ? tiles_m - band * 8 : 8;
    return (band * 8 + (tile - band * 8 * tiles_n) % high) * tile_m;
  };
  const auto column_of = [&](int tile) {
    const int band = tile / (8 * tiles_n), high = tiles_m - band * 8 < 8 ? tiles_m - band * 8 : 8;
    return (tile - band * 8 * tiles_n) / high * tile_n;
  };
  // Copies run ahead of the products, into the next tile of this block too.
  int ahead = blockIdx.x, ahead_step = 0, ahead_row = row_of(ahead), ahead_column = column_of(ahead);
  const auto copy = [&](int stage) {
    if (ahead < tiles) {
#pragma unroll
      for (int i = 0; i < vectors; i += threads) {
        const int at = i + threadIdx.x, line = at >> 3, vector = at & 7;
        if (vectors % threads != 0 && at >= vectors) break;
        const bool first = line < tile_m;
        const int there = first ? ahead_row + line : ahead_column + line - tile_m, last = first ? m - 1 : n - 1;
        const unsigned* from = static_cast<const unsigned*>(first ? left : right);
        from += (long long)(there < last ? there : last) * (steps * 32) + ahead_step * 32 + vector * 4;
        fastconv_copy_16(place + stage * stage_bytes + line * 128 + ((vector ^ line) & 7) * 16, from);
      }
      if (++ahead_step == steps) {
        ahead_step = 0;
        ahead += gridDim.x;
        ahead_row = row_of(ahead);
        ahead_column = column_of(ahead);
      }
    }
    fastconv_end_copies();
  };
#pragma unroll
  for (int stage = 0; stage < stages - 1; ++stage) copy(stage);
  int stage = 0;
"""

_PRODUCT_STEPS = r"""
    for (int step = 0; step < steps; ++step) {
      fastconv_await_copies<stages - 2>();
      __syncthreads();
      copy(stage == 0 ? stages - 1 : stage - 1);
      const char* const a = place + stage * stage_bytes;
      const char* const b = a + tile_m * 128;
      stage = stage == stages - 1 ? 0 : stage + 1;
"""

_MMA_PRODUCT = (
    _PRODUCT_HEAD
    + r"""
  constexpr int rows = part_m / 16, eights = part_n / 8, across = tile_n / part_n;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int from_row = warp / across * part_m, from_column = warp % across * part_n;
  const int a_line = from_row + (lane & 15), a_half = lane >> 4;
  const int b_line = from_column + (lane & 7) + (lane >> 4) * 8, b_half = lane >> 3 & 1;
  const int g = lane >> 2, t = lane & 3;
  const int* of_rows = static_cast<const int*>(left_ones);
  const int* of_columns = static_cast<const int*>(right_ones);
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    int common[rows][eights][4];
#pragma unroll
    for (int r = 0; r < rows; ++r)
#pragma unroll
      for (int j = 0; j < eights; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) common[r][j][e] = 0;
"""
    + _PRODUCT_STEPS
    + r"""
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        unsigned x[rows][4], y[eights][2];
#pragma unroll
        for (int r = 0; r < rows; ++r)
          fastconv_ldmatrix(x[r], a + (a_line + 16 * r) * 128 + ((2 * part + a_half) ^ (a_line & 7)) * 16);
#pragma unroll
        for (int j = 0; j < eights; j += 2)
          fastconv_ldmatrix(y[j], b + (b_line + 8 * j) * 128 + ((2 * part + b_half) ^ (b_line & 7)) * 16);
#pragma unroll
        for (int r = 0; r < rows; ++r)
#pragma unroll
          for (int j = 0; j < eights; ++j) fastconv_bmma(common[r][j], x[r], y[j]);
      }
    }
    const int row = row_of(tile) + from_row + g, column = column_of(tile) + from_column + 2 * t;
#pragma unroll
    for (int j = 0; j < eights; ++j) {
      const int o = column + 8 * j;
      const int here = o < n ? k - 2 * of_columns[o] : 0, next = o + 1 < n ? k - 2 * of_columns[o + 1] : 0;
#pragma unroll
      for (int r = 0; r < 2 * rows; ++r) {
        const int at = row + 8 * r;
        if (at >= m) continue;
        const int less = 2 * of_rows[at];
        const float x = float(here - less + 4 * common[r / 2][j][r % 2 * 2]);
        const float y = float(next - less + 4 * common[r / 2][j][r % 2 * 2 + 1]);
        float* to = static_cast<float*>(result) + (long long)at * n + o;
        if (n % 2 == 0) {
          if (o < n) *reinterpret_cast<float2*>(to) = make_float2(x, y);
        } else {
          if (o < n) to[0] = x;
          if (o + 1 < n) to[1] = y;
        }
      }
    }
  }
}
#endif
"""
)

_POPC_PRODUCT = (
    _PRODUCT_HEAD
    + r"""
  constexpr int across = tile_n / part_n, down = tile_m / part_m;
  const int x = threadIdx.x % across, y = threadIdx.x / across;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    int differing[part_m][part_n];
#pragma unroll
    for (int r = 0; r < part_m; ++r)
#pragma unroll
      for (int j = 0; j < part_n; ++j) differing[r][j] = 0;
"""
    + _PRODUCT_STEPS
    + r"""
#pragma unroll 2
      for (int part = 0; part < 8; ++part) {
        uint4 w[part_n];
#pragma unroll
        for (int j = 0; j < part_n; ++j) {
          const int line = x + across * j;
          w[j] = *reinterpret_cast<const uint4*>(b + line * 128 + ((part ^ line) & 7) * 16);
        }
#pragma unroll
        for (int r = 0; r < part_m; ++r) {
          const int line = y + down * r;
          const uint4 v = *reinterpret_cast<const uint4*>(a + line * 128 + ((part ^ line) & 7) * 16);
#pragma unroll
          for (int j = 0; j < part_n; ++j) {
            differing[r][j] += __popc(v.x ^ w[j].x) + __popc(v.y ^ w[j].y);
            differing[r][j] += __popc(v.z ^ w[j].z) + __popc(v.w ^ w[j].w);
          }
        }
      }
    }
    const int row = row_of(tile) + y, column = column_of(tile) + x;
#pragma unroll
    for (int r = 0; r < part_m; ++r)
#pragma unroll
      for (int j = 0; j < part_n; ++j) {
        const int at = row + down * r, o = column + across * j;
        if (at < m && o < n) static_cast<float*>(result)[(long long)at * n + o] = float(k - 2 * differing[r][j]);
      }
  }
}
#endif
"""
)


def product_source(sizes: dict[str, int], mma: bool) -> tuple[str, str]:
    """Name and source of the product, called with both sides, their ones, the result, shared memory, and m.

    Parameters
    ----------
    sizes : dict
        ``inner``, ``columns``, ``tile_m``, ``tile_n``, ``part_m`` and ``part_n``, of a warp on the tensor cores or of
        a thread that counts differing bits, ``stages`` and ``threads``.
    """
    body = _MMA_PRODUCT if mma else _POPC_PRODUCT
    name = "fastconv_signs_" + "_".join(str(size) for size in sizes.values()) + ("" if mma else "_popc")
    for key, value in (sizes | {"name": name}).items():
        body = body.replace(f"@{key}@", str(value))
    return name, BMMA + COPIES + _LDMATRIX + body
