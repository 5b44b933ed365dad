/**
 * Delta rules in chunks of 64 tokens, forward, on tensor cores; `deltaChunks.h` has the equations. N tokens, H heads, Dk channels of a key, up to D,
 * Dv of a value, both multiples of 8; Q chunks of all documents. q, k [N, H, Dk]; v, y [N, H, Dv]; β [N, H]; g [N, H] or [N, H, Dk].
 *
 * `deltaChunks…` computes for all chunks side by side what needs no state: E⊙Q times the scale, E⊙K and X [N, H, Dk], e^(c_C) [Q, H, Dk], W and, for
 * the way back, T [Q, H, 64, 64]. `deltaStates…` then goes through a document's chunks. A warp has 16 value channels of the state, which have nothing to
 * do with others; it keeps the state transposed, in registers, where it is sum and operand at once.
 */
#include "deltaChunks.h"

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
      for (int i = threadIdx.x; i < STEP * CHUNK; i += CHUNK_THREADS) {
        const int row = block + i / CHUNK, column = i % CHUNK;
        float sum = row == column ? 1.0f : 0.0f;
        for (int m = column; m < block; m++) sum = __fmaf_rn(shared.transitions[row][m], shared.inverse[m][column], sum);
        shared.inverse[row][column] = sum;
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
  static DEVICE void scale(Shared& shared, const bf16* q, const bf16* k, bf16* beginQ, bf16* beginK, float* whole, Own own, Chunks r) {
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
      packAt(beginQ + at) = ofQuery;
      packAt(beginK + at) = ofKey;
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
        HalvedRight right;
        shared.t.upper.rightTransposed(right.upper[0], right.upper[1], i, column);
        shared.t.lower.rightTransposed(right.lower[0], right.lower[1], i, column);
        multiplyHalved(sums[0], sums[1], {shared.p.upper.left(row, i), shared.p.lower.left(row, i)}, right);
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
        HalvedRight right;
        shared.endK.upper.rightTransposed(right.upper[0], right.upper[1], i, channel);
        shared.endK.lower.rightTransposed(right.lower[0], right.lower[1], i, channel);
        multiplyHalved(sums[0], sums[1], {shared.t.upper.leftTransposed(i, row), shared.t.lower.leftTransposed(i, row)}, right);
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

  static DEVICE void run(const bf16* q, const bf16* k, const float* beta, const float* g, bf16* beginQ, bf16* beginK, bf16* x,
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
    scale(shared, q, k, beginQ, beginK, whole, own, r);
    __syncthreads();
    storeWeights(shared, w + ofSquare, row);
    storeWrites(shared, x, row, own, r);
  }
};

template <int D>
struct ChunkStates {
  struct Shared {
    Tile<CHUNK, D> beginQ, beginK, x;
    Tile<CHUNK, CHUNK> w, t;
    Tile<CHUNK, STRIP> v;
  };

  /**
   * A block has 64 value channels of a head in a document. y, the states before chunks, [Q, H, Dv, Dk], U [N, H, Dv], for which T is needed,
   * and the states before the first token and after the last, [H, Dk, Dv], may be left out.
   */
  static DEVICE void run(const bf16* v, const bf16* beginQ, const bf16* beginK, const bf16* x, const float* whole, const bf16* w,
                         const bf16* t, bf16* y, bf16* states, bf16* u, const float* before, float* after, const int* documents,
                         Chunks r) {
    Shared& shared = sharedMemory<Shared>();
    const int lane = threadIdx.x % 32, place = threadIdx.x / 32 * STEP, head = blockIdx.y, strip = blockIdx.x * STRIP;
    const int begin = documents[2 * blockIdx.z], end = documents[2 * blockIdx.z + 2], firstChunk = documents[2 * blockIdx.z + 1];
    const int count = (end - begin + CHUNK - 1) / CHUNK;
    const auto beginKeys = [&](Tile<CHUNK, D>& tile, const bf16* from, int chunk) {
      tile.template begin<CHUNK_THREADS>(from + head * r.keyDim, keyStride(r), begin + chunk * CHUNK, end, 0, r.keyDim);
    };
    const auto beginSquare = [&](Tile<CHUNK, CHUNK>& tile, const bf16* from, int chunk) {
      tile.template begin<CHUNK_THREADS>(from + ofChunk(firstChunk + chunk, head, CHUNK * CHUNK, r), CHUNK, 0, CHUNK, 0, CHUNK);
    };
    const auto beginForM = [&](int chunk) {
      if (chunk < count) {
        beginKeys(shared.beginK, beginK, chunk);
        if (u) beginSquare(shared.t, t, chunk);
        shared.v.template begin<CHUNK_THREADS>(v + head * r.valueDim, valueStride(r), begin + chunk * CHUNK, end, strip, r.valueDim);
      }
      commitCopies();
    };
    const auto beginForState = [&](int chunk) {
      if (chunk < count) {
        beginKeys(shared.x, x, chunk);
        if (y) {
          beginKeys(shared.beginQ, beginQ, chunk);
          beginSquare(shared.w, w, chunk);
        }
      }
      commitCopies();
    };
    beginForM(0);
    beginForState(0);

    // Of the transposed state, a lane's rows and columns.
    const uint64 ofHead = static_cast<uint64>(head) * r.keyDim * r.valueDim;
    const auto stateAt = [&](int j, int e) {
      const int row = strip + place + e / 2 * 8 + lane / 4, column = j * 8 + lane % 4 * 2 + e % 2;
      return row < r.valueDim && column < r.keyDim ? column * r.valueDim + row : -1;
    };
    FragmentC state[D / 8];
    UNROLL
    for (int j = 0; j < D / 8; j++) {
      UNROLL
      for (int e = 0; e < 4; e++) state[j].v[e] = before && stateAt(j, e) >= 0 ? before[ofHead + stateAt(j, e)] : 0.0f;
    }

    for (int chunk = 0; chunk < count; chunk++) {
      const int row = begin + chunk * CHUNK;
      FragmentA earlier[D / 16];
      UNROLL
      for (int i = 0; i < D / 16; i++) earlier[i] = operandOf(state[2 * i], state[2 * i + 1]);
      if (states) storeState<D>(states + ofChunk(firstChunk + chunk, head, r.keyDim * r.valueDim, r), earlier, strip + place, r);

      waitForCopies<1>();
      // What M is made of is there for all.
      __syncthreads();
      FragmentA missing[CHUNK / STEP];
      computeMissing(missing, shared, earlier, place);
      if (u) storeUpdate(u, shared, missing, place, row, end, strip, head, r);

      waitForCopies<0>();
      // The rest is there, too, and nobody reads what M was made of any more.
      __syncthreads();
      beginForM(chunk + 1);
      decayState<D>(state, whole + ofChunk(firstChunk + chunk, head, r.keyDim, r), r);
      UNROLL
      for (int i = 0; i < CHUNK / STEP; i++) {
        UNROLL
        for (int d = 0; d < D; d += 16) {
          FragmentB first, second;
          shared.x.rightTransposed(first, second, i * STEP, d);
          state[d / 8] = mma(state[d / 8], missing[i], first);
          state[d / 8 + 1] = mma(state[d / 8 + 1], missing[i], second);
        }
      }
      if (y) storeOutputs(y, shared, earlier, missing, row, end, strip + place, head, r);
      // Nobody reads any of it any more.
      __syncthreads();
      beginForState(chunk + 1);
    }
    UNROLL
    for (int j = 0; j < D / 8; j++) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        if (after && stateAt(j, e) >= 0) after[ofHead + stateAt(j, e)] = state[j].v[e];
      }
    }
  }

 private:
  /** Mᵀ = Vᵀ − S₀ᵀ·(E⊙K)ᵀ of a warp's channels. */
  static DEVICE void computeMissing(FragmentA (&missing)[CHUNK / STEP], Shared& shared, const FragmentA (&earlier)[D / 16], int place) {
    FragmentC known[CHUNK / 8];
    clear(known);
    UNROLL
    for (int d = 0; d < D; d += 16) {
      UNROLL
      for (int j = 0; j < CHUNK / 8; j += 2) {
        FragmentB first, second;
        shared.beginK.right(first, second, j * 8, d);
        known[j] = mma(known[j], earlier[d / 16], first);
        known[j + 1] = mma(known[j + 1], earlier[d / 16], second);
      }
    }
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) {
      const FragmentA values = shared.v.leftTransposed(i * STEP, place);
      UNROLL
      for (int part = 0; part < 4; part++) {
        const Pair value = unpack(values.r[part]);
        const float* less = known[2 * i + part / 2].v + part % 2 * 2;
        missing[i].r[part] = packBf16(value.at[0] - less[0], value.at[1] - less[1]);
      }
    }
  }

  /** Uᵀ = Mᵀ·Tᵀ of a warp's channels. */
  static DEVICE void storeUpdate(bf16* u, Shared& shared, const FragmentA (&missing)[CHUNK / STEP], int place, int row, int end, int strip,
                                 int head, Chunks r) {
    FragmentC sums[CHUNK / 8];
    clear(sums);
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) {
      UNROLL
      for (int j = 2 * i; j < CHUNK / 8; j += 2) {
        FragmentB first, second;
        shared.t.right(first, second, j * 8, i * STEP);
        sums[j] = mma(sums[j], missing[i], first);
        sums[j + 1] = mma(sums[j + 1], missing[i], second);
      }
    }
    FragmentA update[CHUNK / STEP];
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) update[i] = operandOf(sums[2 * i], sums[2 * i + 1]);
    storeTurned(u, shared.v, update, place, row, end, strip, head, r);
  }

  /** O = scale·(E⊙Q)·S₀ + W·M of a warp's channels, from `channel` on. */
  static DEVICE void storeOutputs(bf16* y, Shared& shared, const FragmentA (&earlier)[D / 16], const FragmentA (&missing)[CHUNK / STEP],
                                  int row, int end, int channel, int head, Chunks r) {
    const int lane = threadIdx.x % 32;
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) {
      FragmentC out[2];
      clear(out);
      const auto add = [&](FragmentA left, FragmentA turned) {
        FragmentB first, second;
        turn(first, second, turned);
        out[0] = mma(out[0], left, first);
        out[1] = mma(out[1], left, second);
      };
      UNROLL
      for (int d = 0; d < D; d += 16) add(shared.beginQ.left(i * STEP, d), earlier[d / 16]);
      UNROLL
      for (int j = 0; j <= i; j++) add(shared.w.left(i * STEP, j * STEP), missing[j]);
      UNROLL
      for (int half = 0; half < 2; half++) {
        const int token = row + i * STEP + half * 8 + lane / 4;
        UNROLL
        for (int j = 0; j < 2; j++) {
          if (token >= end || channel + j * 8 >= r.valueDim) continue;
          *reinterpret_cast<uint32*>(y + token * valueStride(r) + head * r.valueDim + channel + j * 8 + lane % 4 * 2) =
              packBf16(out[j].v[2 * half], out[j].v[2 * half + 1]);
        }
      }
    }
  }
};

KERNEL(deltaChunks64, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* beginQ, bf16* beginK,
       bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<64, false>::run(q, k, beta, g, beginQ, beginK, x, whole, w, t, chunks, r);
}
KERNEL(deltaChunks128, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* beginQ, bf16* beginK,
       bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<128, false>::run(q, k, beta, g, beginQ, beginK, x, whole, w, t, chunks, r);
}
KERNEL(deltaChunksOfChannels64, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* beginQ,
       bf16* beginK, bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<64, true>::run(q, k, beta, g, beginQ, beginK, x, whole, w, t, chunks, r);
}
KERNEL(deltaChunksOfChannels128, CHUNK_THREADS, 2, const bf16* q, const bf16* k, const float* beta, const float* g, bf16* beginQ,
       bf16* beginK, bf16* x, float* whole, bf16* w, bf16* t, const int* chunks, Chunks r) {
  ChunkProducts<128, true>::run(q, k, beta, g, beginQ, beginK, x, whole, w, t, chunks, r);
}

KERNEL(deltaStates64, CHUNK_THREADS, 2, const bf16* v, const bf16* beginQ, const bf16* beginK, const bf16* x, const float* whole,
       const bf16* w, const bf16* t, bf16* y, bf16* states, bf16* u, const float* before, float* after, const int* documents, Chunks r) {
  ChunkStates<64>::run(v, beginQ, beginK, x, whole, w, t, y, states, u, before, after, documents, r);
}
KERNEL(deltaStates128, CHUNK_THREADS, 2, const bf16* v, const bf16* beginQ, const bf16* beginK, const bf16* x, const float* whole,
       const bf16* w, const bf16* t, bf16* y, bf16* states, bf16* u, const float* before, float* after, const int* documents, Chunks r) {
  ChunkStates<128>::run(v, beginQ, beginK, x, whole, w, t, y, states, u, before, after, documents, r);
}
