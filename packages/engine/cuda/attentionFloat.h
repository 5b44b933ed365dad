/**
 * Gated causal attention and its gradients in single precision, without tensor cores; shapes as in `attentionForward.h` and
 * `attentionBackward.h`, all of them float. A warp owns four or eight rows, and walks tiles of 32 others: a lane has one of these while
 * products of rows are formed, and every 32nd channel while rows are added up. Products go over the channels from first to last, and sums
 * over the rows that pass by from first to last, one rounding a step; the sum of exponentials adds up a tile's by halves, and then the
 * tiles. Tiles are counted from the document's first token. So a row's bits depend on its document alone.
 */
#pragma once

#include "attention.h"

/** Rows of a tile that passes by, one for each lane. */
constexpr int PASSING = 32;
constexpr int ATTENTION_WARPS = ATTENTION_THREADS / 32;

/** Rows of up to D channels. Packs of four are permuted so that the same one of eight rows never shares a bank. */
template <int LINES, int D>
struct Rows {
  alignas(16) float values[LINES][D];

  DEVICE float* at(int line, int channel) { return &values[line][(channel / 4 ^ (line & 7)) * 4 + channel % 4]; }
  DEVICE const Pack<float>& pack(int line, int channel) { return packAt(at(line, channel)); }

  /** Begins to copy rows from `line` on, `stride` apart; zeros beyond the last. `channels` is a multiple of 8. */
  DEVICE void begin(const float* from, uint64 stride, int line, int lines, int channels) {
    const int packs = channels / 4;
    for (int i = threadIdx.x; i < LINES * packs; i += ATTENTION_THREADS) {
      const int l = i / packs, channel = i % packs * 4;
      const bool isThere = line + l < lines;
      beginCopy(at(l, channel), isThere ? from + (line + l) * stride + channel : from, isThere);
    }
  }
};

DEVICE void arrive() {
  commitCopies();
  waitForCopies<0>();
  __syncthreads();
}

DEVICE float exponentOf(float score, Heads heads) {
  return heads.capLog2 > 0 ? exponentOf<true>(score, heads) : exponentOf<false>(score, heads);
}
DEVICE float weightOf(float score, float& slope, float logSumExp, bool isThere, Heads heads) {
  return heads.capLog2 > 0 ? weightOf<true>(score, slope, logSumExp, isThere, heads)
                           : weightOf<false>(score, slope, logSumExp, isThere, heads);
}

/** What blocks of heads of up to D channels have in common: `OWN` rows, of which a warp has `COUNT`, and `STEPS` channels of a lane. */
template <int D>
struct FloatRows {
  static constexpr int OWN = D > 128 ? 16 : 32, COUNT = OWN / ATTENTION_WARPS, STEPS = D / 32;

  using Own = Rows<OWN, D>;
  using Passed = Rows<PASSING, D>;
  struct Weights {
    alignas(16) float values[OWN][PASSING];
  };

  static DEVICE int firstRow() { return static_cast<int>(threadIdx.x / 32) * COUNT; }
  static DEVICE int lane() { return static_cast<int>(threadIdx.x % 32); }

  /** Products of the warp's rows with the lane's. */
  static DEVICE void multiply(float (&products)[COUNT], Own& own, Passed& passed, int channels) {
    UNROLL
    for (int r = 0; r < COUNT; r++) products[r] = 0;
    for (int channel = 0; channel < channels; channel += 4) {
      const Pack<float> other = passed.pack(lane(), channel);
      UNROLL
      for (int r = 0; r < COUNT; r++) {
        const Pack<float> row = own.pack(firstRow() + r, channel);
        UNROLL
        for (int i = 0; i < 4; i++) products[r] = __fmaf_rn(row.at[i], other.at[i], products[r]);
      }
    }
  }

  /** sums += the warp's rows of weights · the rows that pass by. A lane's weights are handed to the others in `weights`. */
  static DEVICE void add(float (&sums)[COUNT][STEPS], Weights& weights, const float (&own)[COUNT], Passed& passed, int channels) {
    UNROLL
    for (int r = 0; r < COUNT; r++) weights.values[firstRow() + r][lane()] = own[r];
    __syncwarp();
    for (int line = 0; line < PASSING; line += 4) {
      Pack<float> ofRows[COUNT];
      UNROLL
      for (int r = 0; r < COUNT; r++) ofRows[r] = packAt(&weights.values[firstRow() + r][line]);
      UNROLL
      for (int step = 0; step < STEPS; step++) {
        const int channel = step * 32 + lane();
        if (channel >= channels) continue;
        UNROLL
        for (int i = 0; i < 4; i++) {
          const float value = *passed.at(line + i, channel);
          UNROLL
          for (int r = 0; r < COUNT; r++) sums[r][step] = __fmaf_rn(ofRows[r].at[i], value, sums[r][step]);
        }
      }
    }
    // All lanes have read them, before others are handed over.
    __syncwarp();
  }

  /** Writes the warp's rows that are there, times a factor. */
  static DEVICE void store(float* to, uint64 stride, const float (&sums)[COUNT][STEPS], float factor, Range range, int channels) {
    UNROLL
    for (int r = 0; r < COUNT; r++) {
      const int row = range.first + firstRow() + r;
      if (row >= range.end) continue;
      UNROLL
      for (int step = 0; step < STEPS; step++) {
        const int channel = step * 32 + lane();
        if (channel < channels) to[row * stride + channel] = sums[r][step] * factor;
      }
    }
  }
};

template <int D>
struct FloatAttention : FloatRows<D> {
  using Of = FloatRows<D>;
  struct Shared {
    typename Of::Own q;
    typename Of::Passed k, v;
    typename Of::Weights weights;
  };

  static DEVICE void run(const float* q, const float* k, const float* v, const float* gate, float* y, float* logSumExp, const int* ranges,
                         int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int head = blockIdx.y, channels = heads.headDim, source = head / (heads.heads / heads.keyValueHeads);
    const uint64 qStride = strideOf(heads.heads, heads), kStride = strideOf(heads.keyValueHeads, heads);
    const float lowest = -__uint_as_float(0x7f800000u);
    float out[Of::COUNT][Of::STEPS] = {}, top[Of::COUNT], sum[Of::COUNT] = {};
    UNROLL
    for (int r = 0; r < Of::COUNT; r++) top[r] = lowest;
    shared.q.begin(q + head * channels, qStride, range.first, range.end, channels);

    const int tiles = tilesUntil(range, PASSING, Of::OWN);
    for (int tile = firstKeyTile(range, heads, PASSING); tile < tiles; tile++) {
      const int firstKey = range.begin + tile * PASSING, key = firstKey + Of::lane();
      shared.k.begin(k + source * channels, kStride, firstKey, range.end, channels);
      shared.v.begin(v + source * channels, kStride, firstKey, range.end, channels);
      arrive();
      float weights[Of::COUNT];
      Of::multiply(weights, shared.q, shared.k, channels);
      UNROLL
      for (int r = 0; r < Of::COUNT; r++) {
        const int query = range.first + Of::firstRow() + r;
        const float exponent = isSeen(key, query, heads) ? exponentOf(weights[r], heads) : lowest;
        float most = exponent > top[r] ? exponent : top[r];
        UNROLL
        for (int distance = 16; distance > 0; distance /= 2) {
          const float other = __shfl_xor_sync(0xffffffffu, most, distance);
          most = other > most ? other : most;
        }
        // A row may see nothing of its first tile.
        const float shift = most == lowest ? 0.0f : most, shrink = exponential2(top[r] - shift);
        top[r] = most;
        weights[r] = exponential2(exponent - shift);
        sum[r] = __fmaf_rn(sum[r], shrink, sumOfWarp(weights[r]));
        UNROLL
        for (int step = 0; step < Of::STEPS; step++) out[r][step] *= shrink;
      }
      Of::add(out, shared.weights, weights, shared.v, channels);
      __syncthreads();
    }

    UNROLL
    for (int r = 0; r < Of::COUNT; r++) {
      const int query = range.first + Of::firstRow() + r;
      if (query >= range.end) continue;
      if (Of::lane() == 0) logSumExp[static_cast<uint64>(head) * rows + query] = logSumExpOf(top[r], sum[r]);
      const float inverse = __fdiv_rn(1.0f, sum[r]);
      const uint64 gateRow = (static_cast<uint64>(query) * heads.heads + head) * heads.gates;
      UNROLL
      for (int step = 0; step < Of::STEPS; step++) {
        const int channel = step * 32 + Of::lane();
        if (channel >= channels) continue;
        const float open = heads.gates > 0 ? sigmoid(gate[gateRow + (heads.gates == 1 ? 0 : channel)]) : 1.0f;
        y[query * qStride + head * channels + channel] = out[r][step] * inverse * open;
      }
    }
  }
};

/** dk and dv of the keys that a block owns: it walks the query heads that share them, and their queries. */
template <int D>
struct FloatAttentionKeys : FloatRows<D> {
  using Of = FloatRows<D>;
  struct Shared {
    typename Of::Own k, v;
    typename Of::Passed q, dOut;
    typename Of::Weights weights;
  };

  static DEVICE void run(const float* q, const float* k, const float* v, const float* dOut, const float* logSumExp, const float* delta,
                         float* dk, float* dv, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int channels = heads.headDim, source = blockIdx.y, group = heads.heads / heads.keyValueHeads;
    const uint64 qStride = strideOf(heads.heads, heads), kStride = strideOf(heads.keyValueHeads, heads);
    float dKeys[Of::COUNT][Of::STEPS] = {}, dValues[Of::COUNT][Of::STEPS] = {};
    shared.k.begin(k + source * channels, kStride, range.first, range.end, channels);
    shared.v.begin(v + source * channels, kStride, range.first, range.end, channels);

    const int firstQuery = range.begin + (range.first - range.begin) / PASSING * PASSING, lastKey = ownEnd(range, Of::OWN) - 1;
    const int beyond = heads.window > 0 && lastKey + heads.window < range.end ? lastKey + heads.window : range.end;
    for (int head = source * group; head < (source + 1) * group; head++) {
      for (int first = firstQuery; first < beyond; first += PASSING) {
        shared.q.begin(q + head * channels, qStride, first, range.end, channels);
        shared.dOut.begin(dOut + head * channels, qStride, first, range.end, channels);
        arrive();
        float weights[Of::COUNT], gradients[Of::COUNT];
        Of::multiply(weights, shared.k, shared.q, channels);
        Of::multiply(gradients, shared.v, shared.dOut, channels);
        const int query = first + Of::lane();
        const bool isThere = query < range.end;
        const uint64 at = static_cast<uint64>(head) * rows + query;
        const float ofRow = isThere ? logSumExp[at] : 0.0f, ofDelta = isThere ? delta[at] : 0.0f;
        UNROLL
        for (int r = 0; r < Of::COUNT; r++) {
          const bool counts = isThere && isSeen(range.first + Of::firstRow() + r, query, heads);
          float slope;
          weights[r] = weightOf(weights[r], slope, ofRow, counts, heads);
          gradients[r] = counts ? weights[r] * (gradients[r] - ofDelta) * slope : 0.0f;
        }
        Of::add(dValues, shared.weights, weights, shared.dOut, channels);
        Of::add(dKeys, shared.weights, gradients, shared.q, channels);
        __syncthreads();
      }
    }
    Of::store(dk + source * channels, kStride, dKeys, heads.scale, range, channels);
    Of::store(dv + source * channels, kStride, dValues, 1.0f, range, channels);
  }
};

/** dq of the queries that a block owns: it walks the keys. */
template <int D>
struct FloatAttentionQueries : FloatRows<D> {
  using Of = FloatRows<D>;
  struct Shared {
    typename Of::Own q, dOut;
    typename Of::Passed k, v;
    typename Of::Weights weights;
  };

  static DEVICE void run(const float* q, const float* k, const float* v, const float* dOut, const float* logSumExp, const float* delta,
                         float* dq, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    const Range range = rangeOf(ranges);
    const int head = blockIdx.y, channels = heads.headDim, source = head / (heads.heads / heads.keyValueHeads);
    const uint64 qStride = strideOf(heads.heads, heads), kStride = strideOf(heads.keyValueHeads, heads);
    float dQueries[Of::COUNT][Of::STEPS] = {};
    shared.q.begin(q + head * channels, qStride, range.first, range.end, channels);
    shared.dOut.begin(dOut + head * channels, qStride, range.first, range.end, channels);

    const int tiles = tilesUntil(range, PASSING, Of::OWN);
    for (int tile = firstKeyTile(range, heads, PASSING); tile < tiles; tile++) {
      const int firstKey = range.begin + tile * PASSING, key = firstKey + Of::lane();
      shared.k.begin(k + source * channels, kStride, firstKey, range.end, channels);
      shared.v.begin(v + source * channels, kStride, firstKey, range.end, channels);
      arrive();
      float weights[Of::COUNT], gradients[Of::COUNT];
      Of::multiply(weights, shared.q, shared.k, channels);
      Of::multiply(gradients, shared.dOut, shared.v, channels);
      UNROLL
      for (int r = 0; r < Of::COUNT; r++) {
        const int query = range.first + Of::firstRow() + r;
        const bool counts = query < range.end && isSeen(key, query, heads);
        const uint64 at = static_cast<uint64>(head) * rows + query;
        const float ofRow = counts ? logSumExp[at] : 0.0f, ofDelta = counts ? delta[at] : 0.0f;
        float slope;
        const float weight = weightOf(weights[r], slope, ofRow, counts, heads);
        gradients[r] = counts ? weight * (gradients[r] - ofDelta) * slope : 0.0f;
      }
      Of::add(dQueries, shared.weights, gradients, shared.k, channels);
      __syncthreads();
    }
    Of::store(dq + head * channels, qStride, dQueries, heads.scale, range, channels);
  }
};
