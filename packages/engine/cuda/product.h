/**
 * A tile of a product on tensor cores: what `matmul.cu` and `expertProducts.cu` share. An operand's values lie along K (`ALONG`, [rows, K])
 * or across it (`ACROSS`, [K, rows]); its contiguous axis is a multiple of 8, and it lies at a multiple of 16 bytes.
 */
#pragma once

#include "tile.h"

constexpr int DEPTH = 64;

/** `ROWS` rows of an operand by `DEPTH` steps of k. */
template <int ROWS, int LAYOUT>
struct Operand {
  Tile<LAYOUT == ALONG ? ROWS : DEPTH, LAYOUT == ALONG ? DEPTH : ROWS> tile;

  template <int THREADS>
  DEVICE void begin(const bf16* from, int row, int rows, int k, int depth) {
    if constexpr (LAYOUT == ALONG) tile.template begin<THREADS>(from, depth, row, rows, k, depth);
    else tile.template begin<THREADS>(from, rows, k, depth, row, rows);
  }
  DEVICE FragmentA left(int row, int k) {
    if constexpr (LAYOUT == ALONG) return tile.left(row, k);
    else return tile.leftTransposed(k, row);
  }
  DEVICE void right(FragmentB& first, FragmentB& second, int row, int k) {
    if constexpr (LAYOUT == ALONG) tile.right(first, second, row, k);
    else tile.rightTransposed(first, second, k, row);
  }
};

DEVICE void storePair(bf16* to, float first, float second, bool isPair, int) {
  if (isPair && reinterpret_cast<uint64>(to) % 4 == 0) {
    *reinterpret_cast<uint32*>(to) = packBf16(first, second);
  } else {
    to[0] = toBf16(first);
    if (isPair) to[1] = toBf16(second);
  }
}
DEVICE void storePair(float* to, float first, float second, bool isPair, int accumulate) {
  to[0] = accumulate ? to[0] + first : first;
  if (isPair) to[1] = accumulate ? to[1] + second : second;
}

/** A block has SIZE × SIZE sums, a warp WARP_ROWS × 32 of them. */
template <int EDGE, int STAGES, int WARP_ROWS, int LEFT, int RIGHT>
struct Product {
  static constexpr int SIZE = EDGE;
  static constexpr int WARP_COLUMNS = 32, WARPS_ACROSS = SIZE / WARP_COLUMNS;
  static constexpr int THREADS = 32 * WARPS_ACROSS * (SIZE / WARP_ROWS);
  static constexpr int DOWN = WARP_ROWS / 16, RIGHTWARD = WARP_COLUMNS / 8;

  struct Shared {
    Operand<SIZE, LEFT> a[STAGES];
    Operand<SIZE, RIGHT> b[STAGES];
  };

  /** The sums of the tile that begins at `firstRow` and `firstColumn`. */
  template <typename Out>
  static DEVICE void run(const bf16* a, const bf16* b, Out* y, int M, int N, int K, int firstRow, int firstColumn, int accumulate) {
    Shared& shared = sharedMemory<Shared>();
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int warpRow = warp / WARPS_ACROSS * WARP_ROWS, warpColumn = warp % WARPS_ACROSS * WARP_COLUMNS;
    FragmentC sums[DOWN][RIGHTWARD];
    UNROLL
    for (int i = 0; i < DOWN; i++) {
      UNROLL
      for (int j = 0; j < RIGHTWARD; j++) sums[i][j] = {{0, 0, 0, 0}};
    }

    const int steps = (K + DEPTH - 1) / DEPTH;
    const auto begin = [&](int step) {
      if (step < steps) {
        shared.a[step % STAGES].template begin<THREADS>(a, firstRow, M, step * DEPTH, K);
        shared.b[step % STAGES].template begin<THREADS>(b, firstColumn, N, step * DEPTH, K);
      }
      // Also where there is none, so that the number of groups tells which have come.
      commitCopies();
    };
    UNROLL
    for (int step = 0; step < STAGES - 1; step++) begin(step);
    for (int step = 0; step < steps; step++) {
      waitForCopies<STAGES - 2>();
      // All copies of this tile are there, and nobody reads the one that is overwritten next.
      __syncthreads();
      begin(step + STAGES - 1);
      UNROLL
      for (int k = 0; k < DEPTH; k += 16) {
        FragmentB right[RIGHTWARD];
        UNROLL
        for (int j = 0; j < RIGHTWARD; j += 2) shared.b[step % STAGES].right(right[j], right[j + 1], warpColumn + j * 8, k);
        UNROLL
        for (int i = 0; i < DOWN; i++) {
          const FragmentA left = shared.a[step % STAGES].left(warpRow + i * 16, k);
          UNROLL
          for (int j = 0; j < RIGHTWARD; j++) sums[i][j] = mma(sums[i][j], left, right[j]);
        }
      }
    }

    UNROLL
    for (int i = 0; i < DOWN; i++) {
      UNROLL
      for (int j = 0; j < RIGHTWARD; j++) {
        UNROLL
        for (int half = 0; half < 2; half++) {
          const int row = firstRow + warpRow + i * 16 + half * 8 + lane / 4;
          const int column = firstColumn + warpColumn + j * 8 + lane % 4 * 2;
          if (row >= M || column >= N) continue;
          const FragmentC& sum = sums[i][j];
          storePair(y + static_cast<uint64>(row) * N + column, sum.v[2 * half], sum.v[2 * half + 1], column + 1 < N, accumulate);
        }
      }
    }
  }
};

// Tiles of 64 for small matrices, of which many blocks come; of 128 otherwise.
template <int LEFT, int RIGHT>
using Small = Product<64, 2, 32, LEFT, RIGHT>;
template <int LEFT, int RIGHT>
using Large = Product<128, 3, 64, LEFT, RIGHT>;
