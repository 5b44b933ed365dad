/**
 * The gradients of gated causal attention, in three kernels without any sum across blocks. Shapes as in `attention.cu`; delta [H, N].
 *
 *  1. attentionGate: a warp has a row of a head. dOut = dy ⊙ σ(gate), which may take dy's place; dGate = dy ⊙ y ⊙ (1 − σ(gate)), added up
 *     over the channels where a head has one logit, which may take the gate's place; delta = Σ dy·y.
 *  2. attentionKeys: a block owns 64 keys and walks the query heads that share them, and their queries, from first to last. With the
 *     weights p = e^(q·k/√D − logSumExp): dv = Σ p·dOut, dk = Σ p·(dOut·v − delta)·q/√D. Scores are formed with keys as rows, so that
 *     what is in registers is the left operand of the sums over queries.
 *  3. attentionQueries: a block owns 64 queries and walks the keys: dq = Σ p·(dOut·v − delta)·k/√D.
 */
#include "attention.h"

constexpr int GATE_THREADS = 256;

/** Computes a weight once more, 0 where the key is not seen. */
DEVICE float weightOf(float score, float logSumExp, bool isThere, Heads heads) {
  return isThere ? exponential2(__fmaf_rn(score, heads.toLog2, -(logSumExp * 1.44269504088896340736f))) : 0.0f;
}

KERNEL(attentionGate, GATE_THREADS, 4, const bf16* y, const bf16* gate, const bf16* dy, bf16* dOut, bf16* dGate, float* delta, int rows,
       int heads, int gates, int headDim) {
  const int lane = threadIdx.x % 32;
  const uint64 pair = static_cast<uint64>(blockIdx.x) * (GATE_THREADS / 32) + threadIdx.x / 32;
  if (pair >= static_cast<uint64>(rows) * heads) return;
  const float headOpen = gates == 1 ? sigmoid(toFloat(gate[pair])) : 1.0f;
  float sum = 0;
  for (int channel = lane; channel < headDim; channel += 32) {
    const uint64 at = pair * headDim + channel;
    const float gradient = toFloat(dy[at]), product = gradient * toFloat(y[at]);
    const float open = gates > 1 ? sigmoid(toFloat(gate[at])) : headOpen;
    sum += product;
    dOut[at] = toBf16(gradient * open);
    if (gates > 1) dGate[at] = toBf16(product * (1.0f - open));
  }
  sum = sumOfWarp(sum);
  if (lane != 0) return;
  delta[pair % heads * rows + pair / heads] = sum;
  if (gates == 1) dGate[pair] = toBf16(sum * (1.0f - headOpen));
}

template <int D>
struct AttentionKeys {
  /** Queries whose scores are in registers at a time. No bit depends on it. */
  static constexpr int PART = D < 128 ? ROWS / 2 : ROWS / 4;

  struct Shared {
    Tile<ROWS, D> k, v, q[2], dOut[2];
  };

  static DEVICE void run(const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp, const float* delta,
                         bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, source = blockIdx.y, group = heads.heads / heads.keyValueHeads;
    const uint64 qStride = static_cast<uint64>(heads.heads) * D, kStride = static_cast<uint64>(heads.keyValueHeads) * D;

    // Tiles of queries that see one of the keys, for each head of the group.
    const int firstTile = (range.first - range.begin) / ROWS;
    const int lastKey = (range.first + ROWS < range.end ? range.first + ROWS : range.end) - 1;
    const int lastQuery = heads.window > 0 && lastKey + heads.window < range.end ? lastKey + heads.window - 1 : range.end - 1;
    const int tiles = (lastQuery - range.begin) / ROWS + 1 - firstTile, steps = tiles * group;
    const auto begin = [&](int step) {
      if (step < steps) {
        const int head = source * group + step / tiles, query = range.begin + (firstTile + step % tiles) * ROWS;
        shared.q[step % 2].template begin<ATTENTION_THREADS>(q + head * D, qStride, query, range.end, 0, D);
        shared.dOut[step % 2].template begin<ATTENTION_THREADS>(dOut + head * D, qStride, query, range.end, 0, D);
      }
      commitCopies();
    };
    shared.k.template begin<ATTENTION_THREADS>(k + source * D, kStride, range.first, range.end, 0, D);
    shared.v.template begin<ATTENTION_THREADS>(v + source * D, kStride, range.first, range.end, 0, D);
    begin(0);

    FragmentC dKeys[D / 8], dValues[D / 8];
    clear(dKeys);
    clear(dValues);
    for (int step = 0; step < steps; step++) {
      waitForCopies<0>();
      __syncthreads();
      begin(step + 1);
      const int head = source * group + step / tiles, firstQuery = range.begin + (firstTile + step % tiles) * ROWS;
      const float* sums = logSumExp + static_cast<uint64>(head) * rows;
      const float* deltas = delta + static_cast<uint64>(head) * rows;

      // One part after the other, so that registers suffice.
      NO_UNROLL
      for (int part = 0; part < ROWS; part += PART) {
        FragmentC weights[PART / 8], gradients[PART / 8];
        clear(weights);
        clear(gradients);
        addScores<D, PART>(weights, shared.k, warp * 16, shared.q[step % 2], part);
        addScores<D, PART>(gradients, shared.v, warp * 16, shared.dOut[step % 2], part);
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
              weight = weightOf(weight, logSum, counts, heads);
              gradient = counts ? weight * (gradient - ofRow) : 0.0f;
            }
          }
        }
        addWeighted<D, PART>(dValues, weights, shared.dOut[step % 2], part);
        addWeighted<D, PART>(dKeys, gradients, shared.q[step % 2], part);
      }
    }
    storeRows<D>(dk + source * D, kStride, dKeys, heads.scale, range);
    storeRows<D>(dv + source * D, kStride, dValues, 1.0f, range);
  }
};

template <int D>
struct AttentionQueries {
  struct Shared {
    Tile<ROWS, D> q, dOut, k[2], v[2];
  };

  static DEVICE void run(const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp, const float* delta,
                         bf16* dq, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint64 qStride = static_cast<uint64>(heads.heads) * D, kStride = static_cast<uint64>(heads.keyValueHeads) * D;
    const int source = head / (heads.heads / heads.keyValueHeads);

    const int firstTile = firstKeyTile(range, heads), tiles = tilesUntil(range);
    const auto begin = [&](int tile) {
      if (tile < tiles) {
        const int key = range.begin + tile * ROWS;
        shared.k[tile % 2].template begin<ATTENTION_THREADS>(k + source * D, kStride, key, range.end, 0, D);
        shared.v[tile % 2].template begin<ATTENTION_THREADS>(v + source * D, kStride, key, range.end, 0, D);
      }
      commitCopies();
    };
    shared.q.template begin<ATTENTION_THREADS>(q + head * D, qStride, range.first, range.end, 0, D);
    shared.dOut.template begin<ATTENTION_THREADS>(dOut + head * D, qStride, range.first, range.end, 0, D);
    begin(firstTile);

    float logSum[2], ofRow[2];
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int query = range.first + warp * 16 + half * 8 + lane / 4;
      const uint64 at = static_cast<uint64>(head) * rows + query;
      logSum[half] = query < range.end ? logSumExp[at] : 0.0f;
      ofRow[half] = query < range.end ? delta[at] : 0.0f;
    }
    FragmentC dQueries[D / 8];
    clear(dQueries);
    for (int tile = firstTile; tile < tiles; tile++) {
      waitForCopies<0>();
      __syncthreads();
      begin(tile + 1);
      FragmentC weights[ROWS / 8], gradients[ROWS / 8];
      clear(weights);
      clear(gradients);
      addScores<D, ROWS>(weights, shared.q, warp * 16, shared.k[tile % 2], 0);
      addScores<D, ROWS>(gradients, shared.dOut, warp * 16, shared.v[tile % 2], 0);
      UNROLL
      for (int j = 0; j < ROWS / 8; j++) {
        UNROLL
        for (int e = 0; e < 4; e++) {
          const int query = range.first + warp * 16 + e / 2 * 8 + lane / 4;
          const int key = range.begin + tile * ROWS + j * 8 + lane % 4 * 2 + e % 2;
          const bool counts = query < range.end && isSeen(key, query, heads);
          const float weight = weightOf(weights[j].v[e], logSum[e / 2], counts, heads);
          gradients[j].v[e] = counts ? weight * (gradients[j].v[e] - ofRow[e / 2]) : 0.0f;
        }
      }
      addWeighted<D, ROWS>(dQueries, gradients, shared.k[tile % 2], 0);
    }
    storeRows<D>(dq + head * D, qStride, dQueries, heads.scale, range);
  }
};

KERNEL(attentionKeys32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<32>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionKeys64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<64>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionKeys128, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<128>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<32>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionQueries64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<64>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionQueries128, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<128>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
