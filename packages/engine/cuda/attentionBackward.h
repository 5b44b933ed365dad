/**
 * The gradients of attention from dOut, in kernels without any sum across blocks. Shapes as in `attentionForward.h`; logSumExp, delta
 * [H, N].
 *
 *  - AttentionKeys: a block owns 64 keys and walks the query heads that share them, and their queries, from first to last. With the
 *    weights p = e^(score − logSumExp): dv = Σ p·dOut, dk = Σ p·(dOut·v − delta)·q/√D. Scores are formed with keys as rows, so that
 *    what is in registers is the left operand of the sums over queries.
 *  - AttentionQueries: a block owns 64 queries and walks the keys: dq = Σ p·(dOut·v − delta)·k/√D.
 *
 * Where heads are wide, a block forms half of the channels of its sums (the grid's z), so that these fit into registers.
 */
#pragma once

#include "attention.h"

/** Computes a weight once more, 0 where the key is not seen; `slope` gets how much of a score's change a cap lets through. */
template <bool IS_CAPPED>
DEVICE float weightOf(float score, float& slope, float logSumExp, bool isThere, Heads heads) {
  slope = 1.0f;
  if (!isThere) return 0.0f;
  const float shift = -(logSumExp * 1.44269504088896340736f);
  if constexpr (IS_CAPPED) {
    const float share = hyperbolicTangent(score * heads.overCap);
    slope = 1.0f - share * share;
    return exponential2(__fmaf_rn(share, heads.capLog2, shift));
  } else {
    return exponential2(__fmaf_rn(score, heads.toLog2, shift));
  }
}

/** Of rows that pass by: how many tiles of each kind are there at a time, and their rows; and the channels of a block's sums. */
template <int D>
struct Passing {
  static constexpr bool IS_WIDE = D > 128;
  static constexpr int BUFFERS = IS_WIDE ? 1 : 2, LINES = IS_WIDE ? ROWS / 2 : ROWS, OUT = IS_WIDE ? D / 2 : D;
};

template <int D, bool IS_CAPPED = false>
struct AttentionKeys : Passing<D> {
  using Passing<D>::BUFFERS;
  using Passing<D>::LINES;
  using Passing<D>::OUT;
  /** Queries whose scores are in registers at a time. No bit depends on it. */
  static constexpr int PART = D < 128 ? ROWS / 2 : ROWS / 4;

  struct Shared {
    Tile<ROWS, D> k, v;
    Tile<LINES, D> q[BUFFERS], dOut[BUFFERS];
  };

  static DEVICE void run(const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp, const float* delta,
                         bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, source = blockIdx.y, group = heads.heads / heads.keyValueHeads;
    const uint64 qStride = strideOf(heads.heads, heads), kStride = strideOf(heads.keyValueHeads, heads);
    const int channels = heads.headDim, firstChannel = blockIdx.z * OUT;

    // Tiles of queries that see one of the keys, for each head of the group.
    const int firstTile = (range.first - range.begin) / LINES, lastKey = ownEnd(range) - 1;
    const int lastQuery = heads.window > 0 && lastKey + heads.window < range.end ? lastKey + heads.window - 1 : range.end - 1;
    const int tiles = (lastQuery - range.begin) / LINES + 1 - firstTile, steps = tiles * group;
    const auto begin = [&](int step) {
      if (step < steps) {
        const int head = source * group + step / tiles, query = range.begin + (firstTile + step % tiles) * LINES, at = head * channels;
        shared.q[step % BUFFERS].template begin<ATTENTION_THREADS>(q + at, qStride, query, range.end, 0, channels);
        shared.dOut[step % BUFFERS].template begin<ATTENTION_THREADS>(dOut + at, qStride, query, range.end, 0, channels);
      }
      commitCopies();
    };
    shared.k.template begin<ATTENTION_THREADS>(k + source * channels, kStride, range.first, range.end, 0, channels);
    shared.v.template begin<ATTENTION_THREADS>(v + source * channels, kStride, range.first, range.end, 0, channels);
    begin(0);

    FragmentC dKeys[OUT / 8], dValues[OUT / 8];
    clear(dKeys);
    clear(dValues);
    for (int step = 0; step < steps; step++) {
      waitForCopies<0>();
      __syncthreads();
      if (BUFFERS == 2) begin(step + 1);
      const int head = source * group + step / tiles, firstQuery = range.begin + (firstTile + step % tiles) * LINES;
      const float* sums = logSumExp + static_cast<uint64>(head) * rows;
      const float* deltas = delta + static_cast<uint64>(head) * rows;

      // One part after the other, so that registers suffice.
      NO_UNROLL
      for (int part = 0; part < LINES; part += PART) {
        FragmentC weights[PART / 8], gradients[PART / 8];
        clear(weights);
        clear(gradients);
        addScores<D, PART>(weights, shared.k, warp * 16, shared.q[step % BUFFERS], part);
        addScores<D, PART>(gradients, shared.v, warp * 16, shared.dOut[step % BUFFERS], part);
        UNROLL
        for (int j = 0; j < PART / 8; j++) {
          UNROLL
          for (int i = 0; i < 2; i++) {
            const int query = firstQuery + part + j * 8 + lane % 4 * 2 + i;
            const bool isThere = query < range.end;
            const float logSum = isThere ? sums[query] : 0.0f, ofRow = isThere ? deltas[query] : 0.0f;
            UNROLL
            for (int half = 0; half < 2; half++) {
              const int key = range.first + warp * 16 + half * 8 + lane / 4;
              float &weight = weights[j].v[2 * half + i], &gradient = gradients[j].v[2 * half + i];
              const bool counts = isThere && isSeen(key, query, heads);
              float slope;
              weight = weightOf<IS_CAPPED>(weight, slope, logSum, counts, heads);
              gradient = counts ? weight * (gradient - ofRow) * slope : 0.0f;
            }
          }
        }
        addWeighted<OUT, PART>(dValues, weights, shared.dOut[step % BUFFERS], part, firstChannel);
        addWeighted<OUT, PART>(dKeys, gradients, shared.q[step % BUFFERS], part, firstChannel);
      }
      if (BUFFERS == 1) {
        __syncthreads();
        begin(step + 1);
      }
    }
    const int at = source * channels + firstChannel;
    storeRows<OUT>(dk + at, kStride, dKeys, heads.scale, range, channels - firstChannel);
    storeRows<OUT>(dv + at, kStride, dValues, 1.0f, range, channels - firstChannel);
  }
};

template <int D, bool IS_CAPPED = false>
struct AttentionQueries : Passing<D> {
  using Passing<D>::BUFFERS;
  using Passing<D>::LINES;
  using Passing<D>::OUT;

  struct Shared {
    Tile<ROWS, D> q, dOut;
    Tile<LINES, D> k[BUFFERS], v[BUFFERS];
  };

  static DEVICE void run(const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp, const float* delta,
                         bf16* dq, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint64 qStride = strideOf(heads.heads, heads), kStride = strideOf(heads.keyValueHeads, heads);
    const int channels = heads.headDim, firstChannel = blockIdx.z * OUT, source = head / (heads.heads / heads.keyValueHeads);

    const int firstTile = firstKeyTile(range, heads, LINES), tiles = tilesUntil(range, LINES);
    const auto begin = [&](int tile) {
      if (tile < tiles) {
        const int key = range.begin + tile * LINES, at = source * channels;
        shared.k[tile % BUFFERS].template begin<ATTENTION_THREADS>(k + at, kStride, key, range.end, 0, channels);
        shared.v[tile % BUFFERS].template begin<ATTENTION_THREADS>(v + at, kStride, key, range.end, 0, channels);
      }
      commitCopies();
    };
    shared.q.template begin<ATTENTION_THREADS>(q + head * channels, qStride, range.first, range.end, 0, channels);
    shared.dOut.template begin<ATTENTION_THREADS>(dOut + head * channels, qStride, range.first, range.end, 0, channels);
    begin(firstTile);

    float logSum[2], ofRow[2];
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int query = range.first + warp * 16 + half * 8 + lane / 4;
      const uint64 at = static_cast<uint64>(head) * rows + query;
      logSum[half] = query < range.end ? logSumExp[at] : 0.0f;
      ofRow[half] = query < range.end ? delta[at] : 0.0f;
    }
    FragmentC dQueries[OUT / 8];
    clear(dQueries);
    for (int tile = firstTile; tile < tiles; tile++) {
      waitForCopies<0>();
      __syncthreads();
      if (BUFFERS == 2) begin(tile + 1);
      FragmentC weights[LINES / 8], gradients[LINES / 8];
      clear(weights);
      clear(gradients);
      addScores<D, LINES>(weights, shared.q, warp * 16, shared.k[tile % BUFFERS], 0);
      addScores<D, LINES>(gradients, shared.dOut, warp * 16, shared.v[tile % BUFFERS], 0);
      UNROLL
      for (int j = 0; j < LINES / 8; j++) {
        UNROLL
        for (int e = 0; e < 4; e++) {
          const int query = range.first + warp * 16 + e / 2 * 8 + lane / 4;
          const int key = range.begin + tile * LINES + j * 8 + lane % 4 * 2 + e % 2;
          const bool counts = query < range.end && isSeen(key, query, heads);
          float slope;
          const float weight = weightOf<IS_CAPPED>(weights[j].v[e], slope, logSum[e / 2], counts, heads);
          gradients[j].v[e] = counts ? weight * (gradients[j].v[e] - ofRow[e / 2]) * slope : 0.0f;
        }
      }
      addWeighted<OUT, LINES>(dQueries, gradients, shared.k[tile % BUFFERS], 0, firstChannel);
      if (BUFFERS == 1) {
        __syncthreads();
        begin(tile + 1);
      }
    }
    storeRows<OUT>(dq + head * channels + firstChannel, qStride, dQueries, heads.scale, range, channels - firstChannel);
  }
};
