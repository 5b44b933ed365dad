/**
 * The states of delta rules, from one chunk of 64 tokens to the next, and the way back, on tensor cores; `deltaChunks.h` has the equations, and
 * `deltaChunks.cu` what is computed before. N tokens, H heads, Dk channels of a key, up to D, Dv of a value, both multiples of 8; Q chunks of all
 * documents. v, y [N, H, Dv]; states as they are kept [Q, H, Dv, Dk].
 *
 * A block goes through a document's chunks with 64 value channels of a head, and a warp has 16 of these, which have nothing to do with others. It
 * keeps the state transposed, in registers, where it is sum and operand at once. Documents [2·(documents + 1)]: the first row of each, and its
 * first chunk.
 */
#include "deltaChunks.h"

/** A block's head, its value channels, which begin at `strip`, and its document. */
struct Walk {
  int head, strip, begin, end, firstChunk, chunks;

  DEVICE int rowOf(int chunk) const { return begin + chunk * CHUNK; }
  /** Where something of a chunk begins that takes `size` numbers. */
  DEVICE uint64 at(int chunk, int size, Chunks r) const { return ofChunk(firstChunk + chunk, head, size, r); }

  // Copies that begin, of a chunk's keys, its values, and what it has for two tokens each.
  template <int D>
  DEVICE void beginKeys(Tile<CHUNK, D>& tile, const bf16* from, int chunk, Chunks r) const {
    tile.template begin<CHUNK_THREADS>(from + head * r.keyDim, keyStride(r), rowOf(chunk), end, 0, r.keyDim);
  }
  DEVICE void beginValues(Tile<CHUNK, STRIP>& tile, const bf16* from, int chunk, Chunks r) const {
    tile.template begin<CHUNK_THREADS>(from + head * r.valueDim, valueStride(r), rowOf(chunk), end, strip, r.valueDim);
  }
  DEVICE void beginSquare(Tile<CHUNK, CHUNK>& tile, const bf16* from, int chunk, Chunks r) const {
    tile.template begin<CHUNK_THREADS>(from + at(chunk, CHUNK * CHUNK, r), CHUNK, 0, CHUNK, 0, CHUNK);
  }

  /** Writes what a warp holds transposed, 16 value channels of a chunk from `place` on, by way of those of `tile`, which it alone reads. */
  DEVICE void storeTurned(bf16* to, Tile<CHUNK, STRIP>& tile, const FragmentA (&values)[CHUNK / STEP], int place, int chunk,
                          Chunks r) const {
    const int lane = threadIdx.x % 32;
    __syncwarp();
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) {
      UNROLL
      for (int part = 0; part < 4; part++) {
        const int own = place + part % 2 * 8 + lane / 4, token = i * STEP + part / 2 * 8 + lane % 4 * 2;
        tile.at(token, own)[own % 8] = {static_cast<uint16>(values[i].r[part])};
        tile.at(token + 1, own)[own % 8] = {static_cast<uint16>(values[i].r[part] >> 16)};
      }
    }
    __syncwarp();
    for (int i = lane; i < CHUNK * STEP / 8; i += 32) {
      const int row = rowOf(chunk) + i / 2, own = place + i % 2 * 8;
      if (row >= end || strip + own >= r.valueDim) continue;
      packAt(to + row * valueStride(r) + head * r.valueDim + strip + own) = packAt(tile.at(i / 2, own));
    }
  }

  /** Writes a warp's 16 rows of a transposed state, [Dv, Dk], from `place` on. */
  template <int BLOCKS>
  DEVICE void storeState(bf16* to, const FragmentA (&state)[BLOCKS], int place, int chunk, Chunks r) const {
    const int lane = threadIdx.x % 32;
    to += at(chunk, r.keyDim * r.valueDim, r);
    UNROLL
    for (int i = 0; i < BLOCKS; i++) {
      UNROLL
      for (int part = 0; part < 4; part++) {
        const int row = strip + place + part % 2 * 8 + lane / 4, column = i * 16 + part / 2 * 8;
        if (row >= r.valueDim || column >= r.keyDim) continue;
        *reinterpret_cast<uint32*>(to + row * r.keyDim + column + lane % 4 * 2) = state[i].r[part];
      }
    }
  }
};
DEVICE Walk walkOf(const int* documents) {
  const int* own = documents + 2 * blockIdx.z;
  const int begin = own[0], end = own[2];
  return {static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x) * STRIP, begin, end, own[1], (end - begin + CHUNK - 1) / CHUNK};
}

/** What is kept transposed as a left operand, as two right operands of eight columns. */
DEVICE void turn(FragmentB& first, FragmentB& second, FragmentA a) {
  first = {{a.r[0], a.r[2]}};
  second = {{a.r[1], a.r[3]}};
}

/** state · tileᵀ: sums over the channels of keys, for the tokens of a tile. */
template <int D>
DEVICE void multiplyState(FragmentC (&sums)[CHUNK / 8], const FragmentA (&state)[D / 16], Tile<CHUNK, D>& tile) {
  clear(sums);
  UNROLL
  for (int d = 0; d < D; d += 16) {
    UNROLL
    for (int j = 0; j < CHUNK / 8; j += 2) {
      FragmentB first, second;
      tile.right(first, second, j * 8, d);
      sums[j] = mma(sums[j], state[d / 16], first);
      sums[j + 1] = mma(sums[j + 1], state[d / 16], second);
    }
  }
}

/** state ⊙ e^(c_C), transposed. */
template <int D>
DEVICE void decayState(FragmentC (&state)[D / 8], const float* whole, Chunks r) {
  UNROLL
  for (int j = 0; j < D / 8; j++) {
    const int channel = j * 8 + threadIdx.x % 4 * 2;
    UNROLL
    for (int e = 0; e < 4; e++) state[j].v[e] *= channel < r.keyDim ? whole[channel + e % 2] : 0.0f;
  }
}

template <int D>
struct ChunkStates {
  struct Shared {
    Tile<CHUNK, D> decayedQ, decayedK, x;
    Tile<CHUNK, CHUNK> w, t;
    Tile<CHUNK, STRIP> v;
  };

  /**
   * A block has 64 value channels of a head in a document. y, the states before chunks, [Q, H, Dv, Dk], U [N, H, Dv], for which T is needed,
   * and the states before the first token and after the last, [H, Dk, Dv], may be left out.
   */
  static DEVICE void run(const bf16* v, const bf16* decayedQ, const bf16* decayedK, const bf16* x, const float* whole, const bf16* w,
                         const bf16* t, bf16* y, bf16* states, bf16* u, const float* before, float* after, const int* documents,
                         Chunks r) {
    Shared& shared = sharedMemory<Shared>();
    const Walk walk = walkOf(documents);
    const int lane = threadIdx.x % 32, place = threadIdx.x / 32 * STEP;
    const auto beginForM = [&](int chunk) {
      if (chunk < walk.chunks) {
        walk.beginKeys(shared.decayedK, decayedK, chunk, r);
        if (u) walk.beginSquare(shared.t, t, chunk, r);
        walk.beginValues(shared.v, v, chunk, r);
      }
      commitCopies();
    };
    const auto beginForState = [&](int chunk) {
      if (chunk < walk.chunks) {
        walk.beginKeys(shared.x, x, chunk, r);
        if (y) {
          walk.beginKeys(shared.decayedQ, decayedQ, chunk, r);
          walk.beginSquare(shared.w, w, chunk, r);
        }
      }
      commitCopies();
    };
    beginForM(0);
    beginForState(0);

    // Of the transposed state, a lane's rows and columns.
    const uint64 ofHead = static_cast<uint64>(walk.head) * r.keyDim * r.valueDim;
    const auto stateAt = [&](int j, int e) {
      const int row = walk.strip + place + e / 2 * 8 + lane / 4, column = j * 8 + lane % 4 * 2 + e % 2;
      return row < r.valueDim && column < r.keyDim ? column * r.valueDim + row : -1;
    };
    FragmentC state[D / 8];
    UNROLL
    for (int j = 0; j < D / 8; j++) {
      UNROLL
      for (int e = 0; e < 4; e++) state[j].v[e] = before && stateAt(j, e) >= 0 ? before[ofHead + stateAt(j, e)] : 0.0f;
    }

    for (int chunk = 0; chunk < walk.chunks; chunk++) {
      FragmentA earlier[D / 16];
      UNROLL
      for (int i = 0; i < D / 16; i++) earlier[i] = operandOf(state[2 * i], state[2 * i + 1]);
      if (states) walk.storeState(states, earlier, place, chunk, r);

      waitForCopies<1>();
      // What M is made of is there for all.
      __syncthreads();
      FragmentA missing[CHUNK / STEP];
      computeMissing(missing, shared, earlier, place);
      if (u) storeUpdate(u, shared, missing, place, walk, chunk, r);

      waitForCopies<0>();
      // The rest is there, too, and nobody reads what M was made of any more.
      __syncthreads();
      beginForM(chunk + 1);
      decayState<D>(state, whole + walk.at(chunk, r.keyDim, r), r);
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
      if (y) storeOutputs(y, shared, earlier, missing, place, walk, chunk, r);
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
    multiplyState<D>(known, earlier, shared.decayedK);
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
  static DEVICE void storeUpdate(bf16* u, Shared& shared, const FragmentA (&missing)[CHUNK / STEP], int place, const Walk& walk,
                                 int chunk, Chunks r) {
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
    walk.storeTurned(u, shared.v, update, place, chunk, r);
  }

  /** O = scale·(E⊙Q)·S₀ + W·M of a warp's channels. */
  static DEVICE void storeOutputs(bf16* y, Shared& shared, const FragmentA (&earlier)[D / 16], const FragmentA (&missing)[CHUNK / STEP],
                                  int place, const Walk& walk, int chunk, Chunks r) {
    const int lane = threadIdx.x % 32, channel = walk.strip + place;
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
      for (int d = 0; d < D; d += 16) add(shared.decayedQ.left(i * STEP, d), earlier[d / 16]);
      UNROLL
      for (int j = 0; j <= i; j++) add(shared.w.left(i * STEP, j * STEP), missing[j]);
      UNROLL
      for (int half = 0; half < 2; half++) {
        const int token = walk.rowOf(chunk) + i * STEP + half * 8 + lane / 4;
        UNROLL
        for (int j = 0; j < 2; j++) {
          if (token >= walk.end || channel + j * 8 >= r.valueDim) continue;
          *reinterpret_cast<uint32*>(y + token * valueStride(r) + walk.head * r.valueDim + channel + j * 8 + lane % 4 * 2) =
              packBf16(out[j].v[2 * half], out[j].v[2 * half + 1]);
        }
      }
    }
  }
};

template <int D>
struct ChunkStatesBackward {
  struct Shared {
    Tile<CHUNK, D> decayedQ, decayedK, x;
    Tile<CHUNK, CHUNK> w;
    Tile<CHUNK, STRIP> dy;
  };

  /** A block has 64 value channels of a head in a document. */
  static DEVICE void run(const bf16* dy, const bf16* decayedQ, const bf16* decayedK, const bf16* x, const float* whole, const bf16* w,
                         bf16* dStates, bf16* dv, const int* documents, Chunks r) {
    Shared& shared = sharedMemory<Shared>();
    const Walk walk = walkOf(documents);
    const int place = threadIdx.x / 32 * STEP;
    const auto beginForZ = [&](int chunk) {
      if (chunk >= 0) {
        walk.beginKeys(shared.x, x, chunk, r);
        walk.beginSquare(shared.w, w, chunk, r);
        walk.beginValues(shared.dy, dy, chunk, r);
      }
      commitCopies();
    };
    const auto beginForState = [&](int chunk) {
      if (chunk >= 0) {
        walk.beginKeys(shared.decayedQ, decayedQ, chunk, r);
        walk.beginKeys(shared.decayedK, decayedK, chunk, r);
      }
      commitCopies();
    };
    beginForZ(walk.chunks - 1);
    beginForState(walk.chunks - 1);

    FragmentC state[D / 8];
    clear(state);
    for (int chunk = walk.chunks - 1; chunk >= 0; chunk--) {
      FragmentA later[D / 16];
      UNROLL
      for (int i = 0; i < D / 16; i++) later[i] = operandOf(state[2 * i], state[2 * i + 1]);
      walk.storeState(dStates, later, place, chunk, r);

      waitForCopies<1>();
      // What Z is made of is there for all.
      __syncthreads();
      FragmentA slope[CHUNK / STEP], z[CHUNK / STEP];
      UNROLL
      for (int i = 0; i < CHUNK / STEP; i++) slope[i] = shared.dy.leftTransposed(i * STEP, place);
      computeZ(z, shared, later, slope);
      walk.storeTurned(dv, shared.dy, z, place, chunk, r);

      waitForCopies<0>();
      // The rest is there, too, and nobody reads what Z was made of any more.
      __syncthreads();
      beginForZ(chunk - 1);
      decayState<D>(state, whole + walk.at(chunk, r.keyDim, r), r);
      UNROLL
      for (int i = 0; i < CHUNK / STEP; i++) {
        UNROLL
        for (int part = 0; part < 4; part++) z[i].r[part] ^= 0x80008000u;
        UNROLL
        for (int d = 0; d < D; d += 16) {
          FragmentB first, second;
          shared.decayedQ.rightTransposed(first, second, i * STEP, d);
          state[d / 8] = mma(state[d / 8], slope[i], first);
          state[d / 8 + 1] = mma(state[d / 8 + 1], slope[i], second);
          shared.decayedK.rightTransposed(first, second, i * STEP, d);
          state[d / 8] = mma(state[d / 8], z[i], first);
          state[d / 8 + 1] = mma(state[d / 8 + 1], z[i], second);
        }
      }
      // Nobody reads this chunk any more.
      __syncthreads();
      beginForState(chunk - 1);
    }
  }

 private:
  /** Zᵀ = dOᵀ·W + dSᵀ·Xᵀ of a warp's channels. */
  static DEVICE void computeZ(FragmentA (&z)[CHUNK / STEP], Shared& shared, const FragmentA (&later)[D / 16],
                              const FragmentA (&slope)[CHUNK / STEP]) {
    FragmentC sums[CHUNK / 8];
    multiplyState<D>(sums, later, shared.x);
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) {
      UNROLL
      for (int j = 0; j <= 2 * i; j += 2) {
        FragmentB first, second;
        shared.w.rightTransposed(first, second, i * STEP, j * 8);
        sums[j] = mma(sums[j], slope[i], first);
        sums[j + 1] = mma(sums[j + 1], slope[i], second);
      }
    }
    UNROLL
    for (int i = 0; i < CHUNK / STEP; i++) z[i] = operandOf(sums[2 * i], sums[2 * i + 1]);
  }
};

KERNEL(deltaStates64, CHUNK_THREADS, 2, const bf16* v, const bf16* decayedQ, const bf16* decayedK, const bf16* x, const float* whole,
       const bf16* w, const bf16* t, bf16* y, bf16* states, bf16* u, const float* before, float* after, const int* documents, Chunks r) {
  ChunkStates<64>::run(v, decayedQ, decayedK, x, whole, w, t, y, states, u, before, after, documents, r);
}
KERNEL(deltaStates128, CHUNK_THREADS, 2, const bf16* v, const bf16* decayedQ, const bf16* decayedK, const bf16* x, const float* whole,
       const bf16* w, const bf16* t, bf16* y, bf16* states, bf16* u, const float* before, float* after, const int* documents, Chunks r) {
  ChunkStates<128>::run(v, decayedQ, decayedK, x, whole, w, t, y, states, u, before, after, documents, r);
}

KERNEL(deltaStatesBackward64, CHUNK_THREADS, 2, const bf16* dy, const bf16* decayedQ, const bf16* decayedK, const bf16* x,
       const float* whole, const bf16* w, bf16* dStates, bf16* dv, const int* documents, Chunks r) {
  ChunkStatesBackward<64>::run(dy, decayedQ, decayedK, x, whole, w, dStates, dv, documents, r);
}
KERNEL(deltaStatesBackward128, CHUNK_THREADS, 2, const bf16* dy, const bf16* decayedQ, const bf16* decayedK, const bf16* x,
       const float* whole, const bf16* w, bf16* dStates, bf16* dv, const int* documents, Chunks r) {
  ChunkStatesBackward<128>::run(dy, decayedQ, decayedK, x, whole, w, dStates, dv, documents, r);
}
