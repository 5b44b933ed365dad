/**
 * Gated causal attention, forward: softmax(q·kᵀ/√D)·v ⊙ σ(gate), in the scheme of FlashAttention-2 (Dao, 2023). bf16 with float sums.
 * Shapes: N rows, H query heads, K key-value heads, D channels of a head, whose tiles may have more; q and y [N, H·D], k and v [N, K·D];
 * gate [N, H·D], [N, H] or none; logSumExp [H, N], the natural logarithm of the sum of exponentials of a row's scores.
 *
 * A block has 64 queries of one document and head, 16 for each warp, and walks the document's keys from first to last in tiles of 64,
 * which are counted from the document's first token. So a row's bits depend on its document alone.
 */
#pragma once

#include "attention.h"

template <int D, bool IS_CAPPED = false>
struct Attention {
  /** Tiles of keys, and of values, that are there at a time: one where shared memory holds no more. */
  static constexpr int BUFFERS = D > 128 ? 1 : 2;

  struct Shared {
    Tile<ROWS, D> q, k[BUFFERS], v[BUFFERS];
  };

  static DEVICE void run(const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp, const int* ranges,
                         int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint64 qStride = strideOf(heads.heads, heads), kStride = strideOf(heads.keyValueHeads, heads);
    const int channels = heads.headDim, source = head / (heads.heads / heads.keyValueHeads);

    const int firstTile = firstKeyTile(range, heads, ROWS), tiles = tilesUntil(range, ROWS);
    const auto beginTile = [&](Tile<ROWS, D>(&buffers)[BUFFERS], const bf16* from, int tile) {
      if (tile >= tiles) return;
      const int key = range.begin + tile * ROWS;
      buffers[tile % BUFFERS].template begin<ATTENTION_THREADS>(from + source * channels, kStride, key, range.end, 0, channels);
    };
    shared.q.template begin<ATTENTION_THREADS>(q + head * channels, qStride, range.first, range.end, 0, channels);
    beginTile(shared.k, k, firstTile);
    if (BUFFERS == 2) beginTile(shared.v, v, firstTile);
    commitCopies();

    FragmentC out[D / 8];
    clear(out);
    Softmax softmax;

    for (int tile = firstTile; tile < tiles; tile++) {
      waitForCopies<0>();
      // This tile is there for all, and nobody reads the one before, which what follows overwrites.
      __syncthreads();
      if (BUFFERS == 2) beginTile(shared.k, k, tile + 1);
      beginTile(shared.v, v, BUFFERS == 2 ? tile + 1 : tile);
      commitCopies();

      FragmentC scores[ROWS / 8];
      clear(scores);
      addScores<D, ROWS>(scores, shared.q, warp * 16, shared.k[tile % BUFFERS], 0);

      UNROLL
      for (int half = 0; half < 2; half++) {
        const int query = range.first + warp * 16 + half * 8 + lane / 4;
        const auto exponents = [&](int j, int i) -> float& { return scores[j].v[2 * half + i]; };
        UNROLL
        for (int j = 0; j < ROWS / 8; j++) {
          UNROLL
          for (int i = 0; i < 2; i++) {
            const int key = range.begin + tile * ROWS + j * 8 + lane % 4 * 2 + i;
            exponents(j, i) = isSeen(key, query, heads) ? exponentOf<IS_CAPPED>(exponents(j, i), heads) : lowestExponent();
          }
        }
        softmax.weigh(half, exponents);
        UNROLL
        for (int j = 0; j < D / 8; j++) {
          out[j].v[2 * half] *= softmax.shrink[half];
          out[j].v[2 * half + 1] *= softmax.shrink[half];
        }
      }

      if (BUFFERS == 1) {
        waitForCopies<0>();
        // The values are there for all, and nobody reads the keys any more.
        __syncthreads();
        beginTile(shared.k, k, tile + 1);
        commitCopies();
      }
      addWeighted<D, ROWS>(out, scores, shared.v[tile % BUFFERS], 0, 0);
    }

    UNROLL
    for (int half = 0; half < 2; half++) {
      const int query = range.first + warp * 16 + half * 8 + lane / 4;
      const auto sums = [&](int j, int i) { return out[j].v[2 * half + i]; };
      storeOutput<D>({gate, y, logSumExp, rows}, softmax, half, query, range.end, sums, heads);
    }
  }
};
