/**
 * What delta rules in chunks of 64 tokens compute without a state, for all chunks side by side, on tensor cores; `deltaChunks.h` has the
 * equations. N tokens, H heads, Dk channels of a key, up to D, a multiple of 8; Q chunks of all documents. q, k [N, H, Dk]; β [N, H]; g [N, H] or
 * [N, H, Dk]. Results: E⊙Q times the scale, E⊙K and X [N, H, Dk], e^(c_C) [Q, H, Dk], W and, for the way back, T [Q, H, 64, 64].
 */
#include "deltaChunks.h"

/** Operands whose values have some 16 bits, in two parts: a left one, and two right ones. */
struct HalvedLeft {
  FragmentA upper, lower;
};
struct HalvedRight {
  FragmentB upper[2], lower[2];
};

/** A tile of such values. */
template <int LENGTH>
struct HalvedTile {
  Tile<CHUNK, LENGTH> upper, lower;

  DEVICE void set(int row, int column, float value) {
    const bf16 high = toBf16(value);
    upper.at(row, column)[column % 8] = high;
    lower.at(row, column)[column % 8] = toBf16(value - toFloat(high));
  }
  /** Those from a multiple of eight columns on. */
  DEVICE void set(int row, int column, const Octet& values) {
    Pack<bf16> high, low;
    UNROLL
    for (int x = 0; x < 8; x++) {
      high.at[x] = toBf16(values.at[x]);
      low.at[x] = toBf16(values.at[x] - toFloat(high.at[x]));
    }
    packAt(upper.at(row, column)) = high;
    packAt(lower.at(row, column)) = low;
  }
  // Operands, as a tile of one part has them.
  DEVICE HalvedLeft left(int row, int column) { return {upper.left(row, column), lower.left(row, column)}; }
  DEVICE HalvedLeft leftTransposed(int row, int column) {
    return {upper.leftTransposed(row, column), lower.leftTransposed(row, column)};
  }
  DEVICE HalvedRight rightTransposed(int row, int column) {
    HalvedRight right;
    upper.rightTransposed(right.upper[0], right.upper[1], row, column);
    lower.rightTransposed(right.lower[0], right.lower[1], row, column);
    return right;
  }
};
/** sums += left · right, without the product of the lower parts. */
DEVICE void multiplyHalved(FragmentC& first, FragmentC& second, const HalvedLeft& left, const HalvedRight& right) {
  FragmentC* sums[2] = {&first, &second};
  UNROLL
  for (int j = 0; j < 2; j++) {
    *sums[j] = mma(*sums[j], left.lower, right.upper[j]);
    *sums[j] = mma(*sums[j], left.upper, right.lower[j]);
    *sums[j] = mma(*sums[j], left.upper, right.upper[j]);
  }
}

template <int D, bool OF_CHANNELS>
struct ChunkProducts {
  struct Shared {
    DecaySums<D, OF_CHANNELS> decays;
    float beta[CHUNK];
    HalvedTile<CHUNK> p;
    union {
      /** −β·A below the diagonal. */
      float transitions[CHUNK][CHUNK];
      HalvedTile<CHUNK> t;
    };
    union {
      ChunkOperands<D> operands;
      /** e^g */
      float factors[CHUNK][DecaySums<D, OF_CHANNELS>::WIDTH];
      float inverse[CHUNK][CHUNK];
      /** F⊙K */
      HalvedTile<D> endK;
    };
  };

  /** Takes in A and P of two tokens of the chunk, the latter without scale. */
  static DEVICE void keep(Shared& shared, int row, int column, float ofKeys, float ofQueries, float scale) {
    if (column < row) shared.transitions[row][column] = -(shared.beta[row] * ofKeys);
    shared.p.set(row, column, column <= row ? ofQueries * scale : 0.0f);
  }

  /** Products of 16 tokens from `row` on with those from `column` on, until before `end`. */
  static DEVICE void multiply(Shared& shared, int row, int column, int end, float scale) {
    const int lane = threadIdx.x % 32;
    for (; column < end; column += STEP) {
      FragmentC ofKeys[2], ofQueries[2];
      clear(ofKeys);
      clear(ofQueries);
      UNROLL
      for (int d = 0; d < D; d += 16) {
        FragmentB right[2];
        shared.operands.keys.right(right[0], right[1], column, d);
        const FragmentA key = shared.operands.keys.left(row, d), query = shared.operands.queries.left(row, d);
        UNROLL
        for (int j = 0; j < 2; j++) {
          ofKeys[j] = mma(ofKeys[j], key, right[j]);
          ofQueries[j] = mma(ofQueries[j], query, right[j]);
        }
      }
      UNROLL
      for (int j = 0; j < 2; j++) {
        UNROLL
        for (int e = 0; e < 4; e++) {
          const int i = row + e / 2 * 8 + lane / 4, other = column + j * 8 + lane % 4 * 2 + e % 2;
          // Decays of channels are in the operands already.
          const float factor = OF_CHANNELS || other > i ? 1.0f : shared.decays.between(i, other, 0);
          keep(shared, i, other, ofKeys[j].v[e] * factor, ofQueries[j].v[e] * factor, scale);
        }
      }
    }
  }

  /** With decays of channels, products within a warp's 16 tokens: from each to those before it, whose decays are multiplied on the way. */
  static DEVICE void multiplyNear(Shared& shared, const bf16* q, const bf16* k, Own own, Chunks r) {
    const int lane = threadIdx.x % 32, begin = threadIdx.x / 32 * STEP;
    constexpr int EACH = D / 64;
    for (int row = begin; row < begin + STEP; row++) {
      Pair query[EACH], key[EACH], decay[EACH];
      UNROLL
      for (int x = 0; x < EACH; x++) {
        query[x] = pairOf(q, own.first + row, x * 64 + lane * 2, own, r);
        key[x] = pairOf(k, own.first + row, x * 64 + lane * 2, own, r);
        decay[x] = {{1, 1}};
      }
      // Several at a time, so that their sums are formed beside each other.
      constexpr int TOGETHER = 4;
      for (int last = row; last >= begin; last -= TOGETHER) {
        float ofKeys[TOGETHER], ofQueries[TOGETHER];
        UNROLL
        for (int i = 0; i < TOGETHER; i++) {
          const int column = last - i < begin ? begin : last - i;
          ofKeys[i] = ofQueries[i] = 0;
          UNROLL
          for (int x = 0; x < EACH; x++) {
            const Pair other = pairOf(k, own.first + column, x * 64 + lane * 2, own, r);
            UNROLL
            for (int e = 0; e < 2; e++) {
              const float decayed = other.at[e] * decay[x].at[e];
              ofKeys[i] = __fmaf_rn(key[x].at[e], decayed, ofKeys[i]);
              ofQueries[i] = __fmaf_rn(query[x].at[e], decayed, ofQueries[i]);
              decay[x].at[e] *= shared.factors[column][x * 64 + lane * 2 + e];
            }
          }
        }
        UNROLL
        for (int i = 0; i < TOGETHER; i++) {
          ofKeys[i] = sumOfWarp(ofKeys[i]);
          ofQueries[i] = sumOfWarp(ofQueries[i]);
          if (lane == 0 && last - i >= begin) keep(shared, row, last - i, ofKeys[i], ofQueries[i], r.scale);
        }
      }
      if (begin + lane > row && lane < STEP) shared.p.set(row, begin + lane, 0.0f);
    }
  }

  /** (I + β·A)⁻¹ by forward substitution, 16 rows at a time. */
  static DEVICE void invert(Shared& shared) {
    for (int block = 0; block < CHUNK; block += STEP) {
      // A thread has four rows of a column, of which it takes four values at a time; those above the diagonal are zeros.
      for (int i = threadIdx.x; i < STEP / 4 * CHUNK; i += CHUNK_THREADS) {
        const int row = block + i / CHUNK * 4, column = i % CHUNK;
        float sums[4];
        UNROLL
        for (int x = 0; x < 4; x++) sums[x] = row + x == column ? 1.0f : 0.0f;
        for (int m = column / 4 * 4; m < block; m += 4) {
          float known[4];
          UNROLL
          for (int y = 0; y < 4; y++) known[y] = shared.inverse[m + y][column];
          UNROLL
          for (int x = 0; x < 4; x++) {
            const Pack<float> owed = packAt(&shared.transitions[row + x][m]);
            UNROLL
            for (int y = 0; y < 4; y++) sums[x] = __fmaf_rn(owed.at[y], known[y], sums[x]);
          }
        }
        UNROLL
        for (int x = 0; x < 4; x++) shared.inverse[row + x][column] = sums[x];
      }
      __syncthreads();
      if (threadIdx.x < CHUNK) {
        float own[STEP];
        UNROLL
        for (int i = 0; i < STEP; i++) {
          float sum = shared.inverse[block + i][threadIdx.x];
          UNROLL
          for (int m = 0; m < i; m++) sum = __fmaf_rn(shared.transitions[block + i][block + m], own[m], sum);
          own[i] = sum;
          shared.inverse[block + i][threadIdx.x] = sum;
        }
      }
      __syncthreads();
    }
  }

  /** T as an operand, and in bf16 to `t`, if there is one. */
  static DEVICE void keepInverse(Shared& shared, bf16* t) {
    for (int i = threadIdx.x; i < CHUNK * CHUNK / 8; i += CHUNK_THREADS) {
      const int row = i / (CHUNK / 8), column = i % (CHUNK / 8) * 8;
      Octet values;
      UNROLL
      for (int x = 0; x < 8; x++) {
        values.at[x] = column + x <= row ? shared.inverse[row][column + x] * shared.beta[column + x] : 0.0f;
      }
      shared.t.set(row, column, values);
      if (t) packAt(t + row * CHUNK + column) = packAt(shared.t.upper.at(row, column));
    }
  }

  /** E⊙Q times the scale, E⊙K, and e^(c_C); F⊙K as an operand. */
  static DEVICE void scale(Shared& shared, const bf16* q, const bf16* k, bf16* decayedQ, bf16* decayedK, float* whole, Own own, Chunks r) {
    for (int i = threadIdx.x; i < CHUNK * D / 8; i += CHUNK_THREADS) {
      const int row = i / (D / 8), channel = i % (D / 8) * 8;
      const Octet query = octetOf(q, own.first + row, channel, own, r), key = octetOf(k, own.first + row, channel, own, r);
      Pack<bf16> ofQuery, ofKey;
      Octet endK;
      UNROLL
      for (int x = 0; x < 8; x++) {
        const float begin = shared.decays.fromBegin(row, channel + x);
        ofQuery.at[x] = toBf16(query.at[x] * (begin * r.scale));
        ofKey.at[x] = toBf16(key.at[x] * begin);
        endK.at[x] = key.at[x] * shared.decays.toEnd(row, channel + x);
      }
      shared.endK.set(row, channel, endK);
      if (own.first + row >= own.end || channel >= r.keyDim) continue;
      const uint64 at = (own.first + row) * keyStride(r) + own.head * r.keyDim + channel;
      packAt(decayedQ + at) = ofQuery;
      packAt(decayedK + at) = ofKey;
    }
    for (int channel = threadIdx.x; channel < r.keyDim; channel += CHUNK_THREADS) {
      whole[ofChunk(own.chunk, own.head, r.keyDim, r) + channel] = shared.decays.fromBegin(CHUNK - 1, channel);
    }
  }

  /** 16 rows of W = P·T, from `row` on. */
  static DEVICE void storeWeights(Shared& shared, bf16* w, int row) {
    const int lane = threadIdx.x % 32;
    for (int column = 0; column < CHUNK; column += STEP) {
      FragmentC sums[2];
      clear(sums);
      for (int i = column; i <= row; i += STEP) {
        multiplyHalved(sums[0], sums[1], shared.p.left(row, i), shared.t.rightTransposed(i, column));
      }
      UNROLL
      for (int j = 0; j < 2; j++) {
        UNROLL
        for (int half = 0; half < 2; half++) {
          *reinterpret_cast<uint32*>(w + (row + half * 8 + lane / 4) * CHUNK + column + j * 8 + lane % 4 * 2) =
              packBf16(sums[j].v[2 * half], sums[j].v[2 * half + 1]);
        }
      }
    }
  }

  /** 16 rows of X = Tᵀ·(F⊙K), from `row` on. */
  static DEVICE void storeWrites(Shared& shared, bf16* x, int row, Own own, Chunks r) {
    const int lane = threadIdx.x % 32;
    for (int channel = 0; channel < r.keyDim; channel += 16) {
      FragmentC sums[2];
      clear(sums);
      for (int i = row; i < CHUNK; i += STEP) {
        multiplyHalved(sums[0], sums[1], shared.t.leftTransposed(i, row), shared.endK.rightTransposed(i, channel));
      }
      UNROLL
      for (int j = 0; j < 2; j++) {
        UNROLL
        for (int half = 0; half < 2; half++) {
          const int token = own.first + row + half * 8 + lane / 4;
          if (token >= own.end || channel + j * 8 >= r.keyDim) continue;
          *reinterpret_cast<uint32*>(x + token * keyStride(r) + own.head * r.keyDim + channel + j * 8 + lane % 4 * 2) =
              packBf16(sums[j].v[2 * half], sums[j].v[2 * half + 1]);
        }
      }
    }
  }

  static DEVICE void run(const bf16* q, const bf16* k, const float* beta, const float* g, bf16* decayedQ, bf16* decayedK, bf16* x,
                         float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
    Shared& shared = sharedMemory<Shared>();
    const Own own = ownOf(chunks);
    const int warp = threadIdx.x / 32, row = warp * STEP;
    shared.decays.template fill<CHUNK_THREADS>(g, own, r);
    if (threadIdx.x < CHUNK) shared.beta[threadIdx.x] = betaOf(beta, own.first + threadIdx.x, own, r);
    if constexpr (OF_CHANNELS) {
      for (int i = threadIdx.x; i < CHUNK * D; i += CHUNK_THREADS) {
        shared.factors[i / D][i % D] = exponential(shared.decays.logarithm(g, own.first + i / D, i % D, own, r));
      }
      __syncthreads();
      multiplyNear(shared, q, k, own, r);
      for (int half = CHUNK / 2; half >= STEP; half /= 2) {
        __syncthreads();
        shared.operands.template loadScaled<CHUNK_THREADS>(q, k, shared.decays, half, own, r);
        __syncthreads();
        const int pair = row / (2 * half) * 2 * half;
        if ((row & half) != 0) multiply(shared, row, pair, pair + half, r.scale);
      }
    } else {
      shared.operands.template load<CHUNK_THREADS>(q, k, own, r);
      __syncthreads();
      multiply(shared, row, 0, row + STEP, r.scale);
    }
    __syncthreads();
    invert(shared);
    const uint64 ofSquare = ofChunk(own.chunk, own.head, CHUNK * CHUNK, r);
    keepInverse(shared, t ? t + ofSquare : nullptr);
    __syncthreads();
    scale(shared, q, k, decayedQ, decayedK, whole, own, r);
    __syncthreads();
    storeWeights(shared, w + ofSquare, row);
    storeWrites(shared, x, row, own, r);
  }
};

KERNEL(deltaChunks64, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* decayedQ, bf16* decayedK,
       bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<64, false>::run(q, k, beta, g, decayedQ, decayedK, x, whole, w, t, chunks, r);
}
KERNEL(deltaChunks128, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* decayedQ, bf16* decayedK,
       bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<128, false>::run(q, k, beta, g, decayedQ, decayedK, x, whole, w, t, chunks, r);
}
KERNEL(deltaChunksOfChannels64, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* decayedQ,
       bf16* decayedK, bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<64, true>::run(q, k, beta, g, decayedQ, decayedK, x, whole, w, t, chunks, r);
}
KERNEL(deltaChunksOfChannels128, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* decayedQ,
       bf16* decayedK, bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<128, true>::run(q, k, beta, g, decayedQ, decayedK, x, whole, w, t, chunks, r);
}
