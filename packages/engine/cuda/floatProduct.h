/**
 * A tile of a product in single precision, without tensor cores: what `floatProducts.cu` is made of. An operand's values lie along K
 * (`ALONG`, [rows, K]) or across it (`ACROSS`, [K, rows]).
 *
 * The order of a sum is that of `native/src/gemm.h`, and so are its bits: K is cut into equal blocks of at most 512 steps, as few as
 * possible; each is added up from first to last, with one rounding a step; and the blocks' sums are added to y in order.
 */
#pragma once

#include "device.h"

/** A block of threads has 64 × 64 sums, a thread 8 × 4 of them; 16 steps of k are there at a time, and the next 16 on their way. */
constexpr int EDGE = 64, DEPTH = 16, PRODUCT_THREADS = 128;
constexpr int DOWN = 8, RIGHTWARD = 4, THREADS_ACROSS = EDGE / RIGHTWARD;
constexpr int MOST_DEPTH = 512;

/** 64 rows of an operand by 16 steps of k, one step after the other. */
template <int LAYOUT>
struct Panel {
  static constexpr int PACKS = EDGE * DEPTH / 4 / PRODUCT_THREADS;
  // Four more, so that what is stored across steps lies in different banks.
  alignas(16) float values[DEPTH][EDGE + 4];

  /** The thread's packs of the panel that begins at `row` and `k`; zeros beyond the last row, and from step `end` on. */
  static DEVICE void fetch(float (&packs)[PACKS][4], const float* from, int row, int rows, int k, int end, int depth, bool isPacked) {
    UNROLL
    for (int i = 0; i < PACKS; i++) {
      const int pack = threadIdx.x + i * PRODUCT_THREADS;
      const int r = row + (LAYOUT == ALONG ? pack / (DEPTH / 4) : pack % (EDGE / 4) * 4);
      const int step = k + (LAYOUT == ALONG ? pack % (DEPTH / 4) * 4 : pack / (EDGE / 4));
      UNROLL
      for (int j = 0; j < 4; j++) packs[i][j] = 0.0f;
      if (r >= rows || step >= end) continue;
      if constexpr (LAYOUT == ALONG) loadPack(packs[i], from + static_cast<uint64>(r) * depth, step, end, isPacked);
      else loadPack(packs[i], from + static_cast<uint64>(step) * rows, r, rows, isPacked);
    }
  }

  DEVICE void keep(const float (&packs)[PACKS][4]) {
    UNROLL
    for (int i = 0; i < PACKS; i++) {
      const int pack = threadIdx.x + i * PRODUCT_THREADS;
      if constexpr (LAYOUT == ALONG) {
        UNROLL
        for (int j = 0; j < 4; j++) values[pack % (DEPTH / 4) * 4 + j][pack / (DEPTH / 4)] = packs[i][j];
      } else {
        storePack(&values[pack / (EDGE / 4)][0], packs[i], pack % (EDGE / 4) * 4, EDGE, true);
      }
    }
  }
};

template <int LEFT, int RIGHT>
struct FloatProduct {
  struct Shared {
    Panel<LEFT> a[2];
    Panel<RIGHT> b[2];
  };

  /** The sums of the tile that begins at `firstRow` and `firstColumn`, which are added to y where it `accumulate`s. */
  static DEVICE void run(const float* a, const float* b, float* y, int M, int N, int K, int firstRow, int firstColumn, int accumulate) {
    Shared& shared = sharedMemory<Shared>();
    const int blocks = K <= MOST_DEPTH ? 1 : (K + MOST_DEPTH - 1) / MOST_DEPTH;
    const auto beginOf = [&](int block) { return static_cast<int>(static_cast<uint64>(K) * block / blocks); };
    const int down = static_cast<int>(threadIdx.x) / THREADS_ACROSS * DOWN;
    const int rightward = static_cast<int>(threadIdx.x) % THREADS_ACROSS * RIGHTWARD;
    int panel = 0;
    for (int block = 0; block < blocks; block++) {
      const int begin = beginOf(block), end = beginOf(block + 1);
      const bool isPackedAlong = ((K | begin | end) & 3) == 0;
      float left[Panel<LEFT>::PACKS][4], right[Panel<RIGHT>::PACKS][4];
      const auto fetch = [&](int k) {
        Panel<LEFT>::fetch(left, a, firstRow, M, k, end, K, LEFT == ALONG ? isPackedAlong : (M & 3) == 0);
        Panel<RIGHT>::fetch(right, b, firstColumn, N, k, end, K, RIGHT == ALONG ? isPackedAlong : (N & 3) == 0);
      };
      float sums[DOWN][RIGHTWARD] = {};
      fetch(begin);
      for (int k = begin; k < end; k += DEPTH, panel ^= 1) {
        // Nobody reads this panel any more, since the last barrier: who is here has done with the one before.
        shared.a[panel].keep(left);
        shared.b[panel].keep(right);
        __syncthreads();
        fetch(k + DEPTH);
        UNROLL
        for (int step = 0; step < DEPTH; step++) {
          float ofRows[DOWN], ofColumns[RIGHTWARD];
          UNROLL
          for (int i = 0; i < DOWN; i += 4) {
            const Pack<float> pack = packAt(&shared.a[panel].values[step][down + i]);
            UNROLL
            for (int j = 0; j < 4; j++) ofRows[i + j] = pack.at[j];
          }
          loadPack(ofColumns, &shared.b[panel].values[step][0], rightward, EDGE, true);
          UNROLL
          for (int i = 0; i < DOWN; i++) {
            UNROLL
            for (int j = 0; j < RIGHTWARD; j++) sums[i][j] = __fmaf_rn(ofRows[i], ofColumns[j], sums[i][j]);
          }
        }
      }
      store(y, sums, firstRow + down, M, firstColumn + rightward, N, accumulate || block > 0);
    }
  }

 private:
  static DEVICE void store(float* y, float (&sums)[DOWN][RIGHTWARD], int row, int M, int column, int N, bool isAdded) {
    if (column >= N) return;
    const bool isPacked = (N & 3) == 0;
    UNROLL
    for (int i = 0; i < DOWN; i++) {
      if (row + i >= M) return;
      float* to = y + static_cast<uint64>(row + i) * N;
      if (isAdded) {
        float before[RIGHTWARD];
        loadPack(before, to, column, N, isPacked);
        UNROLL
        for (int j = 0; j < RIGHTWARD; j++) sums[i][j] = before[j] + sums[i][j];
      }
      storePack(to, sums[i], column, N, isPacked);
    }
  }
};
