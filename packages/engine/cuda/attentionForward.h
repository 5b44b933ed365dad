/**
 * Gated causal attention, forward: softmax(q·kᵀ/√D)·v ⊙ σ(gate), in the scheme of FlashAttention-2 (Dao, 2023). bf16 with float sums.
 * Shapes: N rows, H query heads, K key-value heads, D channels of a head, whose tiles may have more; q and y [N, H·D], k and v [N, K·D];
 * gate [N, H·D], [N, H] or none; logSumExp [H, N], the natural logarithm of the sum of exponentials of a row's scores.
 *
 * A block has 64 queries of one document and head, 16 for each warp, and walks the document's keys from first to last in tiles of 64,
 * which are counted from the document's first token. It keeps the largest score and the sum of exponentials of each row; a lane adds
 * up the keys that its fragments hold, and four lanes come together at the end. So a row's bits depend on its document alone.
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
    const float lowest = -__uint_as_float(0x7f800000u);
    // Of the lane's two rows.
    float top[2] = {lowest, lowest}, sum[2] = {0, 0};

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
        float most = top[half];
        UNROLL
        for (int j = 0; j < ROWS / 8; j++) {
          UNROLL
          for (int i = 0; i < 2; i++) {
            float& score = scores[j].v[2 * half + i];
            const int key = range.begin + tile * ROWS + j * 8 + lane % 4 * 2 + i;
            score = isSeen(key, query, heads) ? exponentOf<IS_CAPPED>(score, heads) : lowest;
            most = score > most ? score : most;
          }
        }
        UNROLL
        for (int distance = 1; distance < 4; distance *= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, most, distance);
          most = other > most ? other : most;
        }
        // A row may see nothing of its first tile.
        const float shift = most == lowest ? 0.0f : most, shrink = exponential2(top[half] - shift);
        top[half] = most;
        float added = 0;
        UNROLL
        for (int j = 0; j < ROWS / 8; j++) {
          UNROLL
          for (int i = 0; i < 2; i++) {
            float& score = scores[j].v[2 * half + i];
            score = exponential2(score - shift);
            added += score;
          }
        }
        sum[half] = __fmaf_rn(sum[half], shrink, added);
        UNROLL
        for (int j = 0; j < D / 8; j++) {
          out[j].v[2 * half] *= shrink;
          out[j].v[2 * half + 1] *= shrink;
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
      float total = sum[half];
      UNROLL
      for (int distance = 1; distance < 4; distance *= 2) total += __shfl_xor_sync(0xffffffffu, total, distance);
      if (query >= range.end) continue;
      if (lane % 4 == 0) logSumExp[static_cast<uint64>(head) * rows + query] = logSumExpOf(top[half], total);
      const float inverse = __fdiv_rn(1.0f, total);
      const uint64 gateRow = (static_cast<uint64>(query) * heads.heads + head) * heads.gates;
      UNROLL
      for (int j = 0; j < D / 8; j++) {
        const int channel = j * 8 + lane % 4 * 2;
        if (channel >= channels) continue;
        float values[2];
        UNROLL
        for (int i = 0; i < 2; i++) {
          const int place = heads.gates == 1 ? 0 : channel + i;
          const float open = heads.gates > 0 ? sigmoid(toFloat(gate[gateRow + place])) : 1.0f;
          values[i] = out[j].v[2 * half + i] * inverse * open;
        }
        *reinterpret_cast<uint32*>(y + query * qStride + head * channels + channel) = packBf16(values[0], values[1]);
      }
    }
  }
};
