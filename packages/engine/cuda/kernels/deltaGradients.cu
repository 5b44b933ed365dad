/**
 * The gradients of delta rules in chunks of 64 tokens but that of the values, for all chunks side by side, on tensor cores; `deltaChunks.h` has the
 * equations. N tokens, H heads, Dk channels of a key, up to D, Dv of a value, both multiples of 8; Q chunks of all documents. Of `deltaStates.cu`
 * come the states before chunks and their gradients after them [Q, H, Dv, Dk], U and Z [N, H, Dv].
 */
#include "deltaChunks.h"

constexpr int GRADIENT_THREADS = 256;

template <int D, bool OF_CHANNELS>
struct ChunkGradients {
  /** Of a warp, which has 16 tokens: half of the channels, in blocks of eight. */
  static constexpr int HALF = D / 2, BLOCKS = HALF / 8;
  /** How many threads share the sum over value channels for a key's channel. */
  static constexpr int SHARES = GRADIENT_THREADS / D;
  using Sums = FragmentC[BLOCKS];
  using Squares = FragmentC[CHUNK / 2 / 8];

  struct Shared {
    DecaySums<D, OF_CHANNELS> decays;
    float beta[CHUNK];
    /** What c_C gets besides: sums over 16 tokens, of k⊙F⊙(U·dSᵀ), and over value channels, of S₀⊙dS. */
    float atEnd[CHUNK / STEP][D], carried[SHARES][D];
    /**
     * Of what goes between the two blocks of a pair, with decays of channels, its share of dc, added up over 16 tokens: as the earlier tokens
     * have it, and minus as the later ones have it. Both are the same to rounding, and dg of tokens before the pair is to have nothing of it.
     */
    float crossing[2][OF_CHANNELS ? CHUNK / STEP : 1][OF_CHANNELS ? D : 1];
    /** dc of tokens, added up over halves of the channels; and of the chunk's end. */
    float ofRows[2][CHUNK], total;
    union {
      struct {
        Tile<CHUNK, STRIP> dy, u, z;
        Tile<STRIP, D> state, dState;
      } strip;
      struct {
        /** scale·dP and G, times decays if these are of all channels. */
        Tile<CHUNK, CHUNK> dp, da;
        union {
          ChunkOperands<D> operands;
          /** e^g, and then dc. */
          float factors[CHUNK][OF_CHANNELS ? D : 1];
        };
      } squares;
    };
  };

  struct Inputs {
    const bf16 *q, *k, *dy, *u, *z, *states, *dStates;
    const float *beta, *g;
  };
  struct Outputs {
    bf16 *dq, *dk;
    float *dBeta, *dg;
  };

  static DEVICE int lane() { return threadIdx.x % 32; }
  /** The first of a warp's tokens, and of its channels. */
  static DEVICE int firstRow() { return threadIdx.x / 32 % 4 * STEP; }
  static DEVICE int firstChannel() { return static_cast<int>(threadIdx.x) / 128 * HALF; }
  /** Where a lane's sums are: of a block of eight columns, the element e. */
  static DEVICE int rowOf(int e) { return firstRow() + e / 2 * 8 + lane() / 4; }
  static DEVICE int channelOf(int block, int e) { return firstChannel() + block * 8 + lane() % 4 * 2 + e % 2; }

  static DEVICE void run(Inputs in, Outputs out, const int* chunks, Chunks r) {
    Shared& shared = sharedMemory<Shared>();
    const Own own = ownOf(chunks);
    shared.decays.template fill<GRADIENT_THREADS>(in.g, own, r);
    if (threadIdx.x < CHUNK) shared.beta[threadIdx.x] = betaOf(in.beta, own.first + threadIdx.x, own, r);

    Sums dq, later, earlier;
    Squares dp, da;
    throughStates(shared, in, dq, later, earlier, dp, da, own, r);
    storeSquares(shared, dp, da, out.dBeta, own, r);
    scaleStates(shared, in, dq, later, earlier, own, r);
    if constexpr (OF_CHANNELS) throughDecayedSquares(shared, in, dq, later, earlier, own, r);
    else throughSquares(shared, in, dq, later, earlier, own, r);
    storeGradients(shared, in, out, dq, later, earlier, own, r);
  }

 private:
  /** dO·S₀ᵀ, Z·S₀ᵀ, U·dSᵀ, dO·Uᵀ and Z·Uᵀ over all value channels; and Σ S₀⊙dS. */
  static DEVICE void throughStates(Shared& shared, Inputs in, Sums& dq, Sums& later, Sums& earlier, Squares& dp, Squares& da, Own own,
                                   Chunks r) {
    clear(dq);
    clear(later);
    clear(earlier);
    clear(dp);
    clear(da);
    float carried = 0;
    const int row = firstRow(), channel = firstChannel(), column = static_cast<int>(threadIdx.x) / 128 * (CHUNK / 2);
    const auto beginRows = [&](Tile<CHUNK, STRIP>& tile, const bf16* from, int at) {
      tile.template begin<GRADIENT_THREADS>(from + own.head * r.valueDim, valueStride(r), own.first, own.end, at, r.valueDim);
    };
    const auto beginState = [&](Tile<STRIP, D>& tile, const bf16* from, int at) {
      const uint64 place = ofChunk(own.chunk, own.head, r.keyDim * r.valueDim, r);
      tile.template begin<GRADIENT_THREADS>(from + place, r.keyDim, at, r.valueDim, 0, r.keyDim);
    };
    auto& strip = shared.strip;
    for (int at = 0; at < r.valueDim; at += STRIP) {
      // Nobody reads the last strip any more.
      __syncthreads();
      beginRows(strip.dy, in.dy, at);
      beginRows(strip.u, in.u, at);
      beginRows(strip.z, in.z, at);
      beginState(strip.state, in.states, at);
      beginState(strip.dState, in.dStates, at);
      commitCopies();
      waitForCopies<0>();
      __syncthreads();
      UNROLL
      for (int i = 0; i < STRIP; i += 16) {
        const FragmentA slope = strip.dy.left(row, i), z = strip.z.left(row, i), u = strip.u.left(row, i);
        UNROLL
        for (int j = 0; j < CHUNK / 2 / 8; j += 2) {
          if (column + j * 8 > row) continue;
          FragmentB right[2];
          strip.u.right(right[0], right[1], column + j * 8, i);
          UNROLL
          for (int x = 0; x < 2; x++) {
            dp[j + x] = mma(dp[j + x], slope, right[x]);
            da[j + x] = mma(da[j + x], z, right[x]);
          }
        }
        UNROLL
        for (int j = 0; j < BLOCKS; j += 2) {
          FragmentB right[2];
          strip.state.rightTransposed(right[0], right[1], i, channel + j * 8);
          UNROLL
          for (int x = 0; x < 2; x++) {
            dq[j + x] = mma(dq[j + x], slope, right[x]);
            later[j + x] = mma(later[j + x], z, right[x]);
          }
          strip.dState.rightTransposed(right[0], right[1], i, channel + j * 8);
          UNROLL
          for (int x = 0; x < 2; x++) earlier[j + x] = mma(earlier[j + x], u, right[x]);
        }
      }
      const int summed = threadIdx.x % D, share = threadIdx.x / D * (STRIP / SHARES);
      for (int i = share; i < share + STRIP / SHARES; i++) {
        carried = __fmaf_rn(toFloat(strip.state.at(i, summed)[summed % 8]), toFloat(strip.dState.at(i, summed)[summed % 8]), carried);
      }
    }
    shared.carried[threadIdx.x / D][threadIdx.x % D] = carried;
    // The strip may be overwritten.
    __syncthreads();
  }

  /** scale·dP and G as operands; the diagonal of Z·Uᵀ is β's gradient times β². */
  static DEVICE void storeSquares(Shared& shared, const Squares& dp, const Squares& da, float* dBeta, Own own, Chunks r) {
    UNROLL
    for (int j = 0; j < CHUNK / 2 / 8; j++) {
      UNROLL
      for (int half = 0; half < 2; half++) {
        const int row = rowOf(2 * half), column = static_cast<int>(threadIdx.x) / 128 * (CHUNK / 2) + j * 8 + lane() % 4 * 2;
        float ofP[2], ofA[2];
        UNROLL
        for (int e = 0; e < 2; e++) {
          const int i = 2 * half + e;
          const float decay = OF_CHANNELS || column + e > row ? 1.0f : shared.decays.between(row, column + e, 0);
          ofP[e] = column + e <= row ? dp[j].v[i] * (decay * r.scale) : 0.0f;
          ofA[e] = column + e < row ? -(da[j].v[i] * decay) : 0.0f;
          if (column + e == row && own.first + row < own.end) {
            const float over = __fdiv_rn(1.0f, shared.beta[row]);
            dBeta[static_cast<uint64>(own.first + row) * r.heads + own.head] = da[j].v[i] * over * over;
          }
        }
        *reinterpret_cast<uint32*>(shared.squares.dp.at(row, column) + column % 8) = packBf16(ofP[0], ofP[1]);
        *reinterpret_cast<uint32*>(shared.squares.da.at(row, column) + column % 8) = packBf16(ofA[0], ofA[1]);
      }
    }
  }

  /** What comes through states, with its decays; of a key as the earlier token it is also part of dc_C. */
  static DEVICE void scaleStates(Shared& shared, Inputs in, Sums& dq, Sums& later, Sums& earlier, Own own, Chunks r) {
    UNROLL
    for (int j = 0; j < BLOCKS; j++) {
      float atEnd[2] = {0, 0};
      UNROLL
      for (int e = 0; e < 4; e++) {
        const int row = rowOf(e), channel = channelOf(j, e);
        const float begin = shared.decays.fromBegin(row, channel);
        dq[j].v[e] *= begin * r.scale;
        later[j].v[e] *= -begin;
        earlier[j].v[e] *= shared.decays.toEnd(row, channel);
        const Pair key = pairOf(in.k, own.first + row, channelOf(j, 0), own, r);
        atEnd[e % 2] = __fmaf_rn(key.at[e % 2], earlier[j].v[e], atEnd[e % 2]);
      }
      UNROLL
      for (int e = 0; e < 2; e++) {
        const float sum = sumOfRows(atEnd[e]);
        if (lane() < 4) shared.atEnd[firstRow() / STEP][channelOf(j, e)] = sum;
      }
    }
  }

  /** sums += 16 rows of a square from `row` and `column` on, or of its transpose, · 16 rows of keys or queries. */
  static DEVICE void multiply(Sums& sums, FragmentA left, Tile<CHUNK, D>& right, int from) {
    UNROLL
    for (int j = 0; j < BLOCKS; j += 2) {
      FragmentB first, second;
      right.rightTransposed(first, second, from, firstChannel() + j * 8);
      sums[j] = mma(sums[j], left, first);
      sums[j + 1] = mma(sums[j + 1], left, second);
    }
  }

  /** What goes through A and P, with one decay of all channels. */
  static DEVICE void throughSquares(Shared& shared, Inputs in, Sums& dq, Sums& later, Sums& earlier, Own own, Chunks r) {
    auto& squares = shared.squares;
    squares.operands.template load<GRADIENT_THREADS>(in.q, in.k, own, r);
    __syncthreads();
    const int row = firstRow();
    for (int i = 0; i <= row; i += STEP) {
      multiply(dq, squares.dp.left(row, i), squares.operands.keys, i);
      multiply(later, squares.da.left(row, i), squares.operands.keys, i);
    }
    for (int i = row; i < CHUNK; i += STEP) {
      multiply(earlier, squares.dp.leftTransposed(i, row), squares.operands.queries, i);
      multiply(earlier, squares.da.leftTransposed(i, row), squares.operands.keys, i);
    }
  }

  /** The same with decays of channels, which are in the operands and in what comes of them; within 16 tokens they are multiplied on the way. */
  static DEVICE void throughDecayedSquares(Shared& shared, Inputs in, Sums& dq, Sums& later, Sums& earlier, Own own, Chunks r) {
    auto& squares = shared.squares;
    const int row = firstRow();
    for (int half = CHUNK / 2; half >= STEP; half /= 2) {
      __syncthreads();
      squares.operands.template loadScaled<GRADIENT_THREADS>(in.q, in.k, shared.decays, half, own, r);
      __syncthreads();
      const int pair = row / (2 * half) * 2 * half;
      Sums part;
      if ((row & half) != 0) {
        clear(part);
        for (int i = pair; i < pair + half; i += STEP) multiply(part, squares.dp.left(row, i), squares.operands.keys, i);
        addScaled<true>(dq, part, shared, half, -1, in.q, own, r);
        clear(part);
        for (int i = pair; i < pair + half; i += STEP) multiply(part, squares.da.left(row, i), squares.operands.keys, i);
        addScaled<false>(later, part, shared, half, -1, in.k, own, r);
      } else {
        clear(part);
        for (int i = pair + half; i < pair + 2 * half; i += STEP) {
          multiply(part, squares.dp.leftTransposed(i, row), squares.operands.queries, i);
          multiply(part, squares.da.leftTransposed(i, row), squares.operands.keys, i);
        }
        addScaled<true>(earlier, part, shared, half, 1, in.k, own, r);
      }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * D; i += GRADIENT_THREADS) {
      squares.factors[i / D][i % D] = exponential(shared.decays.logarithm(in.g, own.first + i / D, i % D, own, r));
    }
    __syncthreads();
    throughNear(shared, in, dq, later, earlier, own, r);
  }

  /** Adds what goes between the blocks of a pair, and notes its share of dc, which is made of `with`, q or k. */
  template <bool IS_FIRST>
  static DEVICE void addScaled(Sums& sums, const Sums& part, Shared& shared, int half, float sign, const bf16* with, Own own, Chunks r) {
    UNROLL
    for (int j = 0; j < BLOCKS; j++) {
      float crossing[2] = {0, 0};
      UNROLL
      for (int e = 0; e < 4; e++) {
        const float value = part[j].v[e] * shared.decays.scaleOf(rowOf(e), channelOf(j, e), half);
        sums[j].v[e] += value;
        const Pair factor = pairOf(with, own.first + rowOf(e), channelOf(j, 0), own, r);
        crossing[e % 2] = __fmaf_rn(factor.at[e % 2], value, crossing[e % 2]);
      }
      UNROLL
      for (int e = 0; e < 2; e++) {
        const float sum = sign * sumOfRows(crossing[e]);
        float& noted = shared.crossing[levelOf(half)][firstRow() / STEP][channelOf(j, e)];
        if (lane() < 4) noted = IS_FIRST ? sum : noted + sum;
      }
    }
  }

  static DEVICE int levelOf(int half) { return half == STEP ? 0 : 1; }

  /** The sum over a warp's tokens, of what a lane has of two of them. */
  static DEVICE float sumOfRows(float sum) {
    UNROLL
    for (int distance = 4; distance < 32; distance *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
  }

  /** What goes through A and P between a warp's 16 tokens, each lane for the rows and channels of its sums. */
  static DEVICE void throughNear(Shared& shared, Inputs in, Sums& dq, Sums& later, Sums& earlier, Own own, Chunks r) {
    auto& squares = shared.squares;
    const int first = firstRow();
    const auto valueOf = [](Tile<CHUNK, CHUNK>& square, int row, int column) { return toFloat(square.at(row, column)[column % 8]); };
    Sums decay;
    clear(decay);
    // From each row to those before it.
    NO_UNROLL
    for (int column = first + STEP - 1; column >= first; column--) {
      float ofP[2], ofA[2];
      UNROLL
      for (int half = 0; half < 2; half++) {
        const bool isThere = column <= rowOf(2 * half);
        ofP[half] = isThere ? valueOf(squares.dp, rowOf(2 * half), column) : 0.0f;
        ofA[half] = isThere ? valueOf(squares.da, rowOf(2 * half), column) : 0.0f;
      }
      UNROLL
      for (int j = 0; j < BLOCKS; j++) {
        const Pair key = pairOf(in.k, own.first + column, channelOf(j, 0), own, r);
        UNROLL
        for (int e = 0; e < 4; e++) {
          const int row = rowOf(e);
          float& product = decay[j].v[e];
          product = column == row ? 1.0f : column < row ? product * squares.factors[column + 1][channelOf(j, e)] : 0.0f;
          const float decayed = key.at[e % 2] * product;
          dq[j].v[e] = __fmaf_rn(ofP[e / 2], decayed, dq[j].v[e]);
          later[j].v[e] = __fmaf_rn(ofA[e / 2], decayed, later[j].v[e]);
        }
      }
    }
    clear(decay);
    // And to those after it.
    NO_UNROLL
    for (int from = first; from < first + STEP; from++) {
      float ofP[2], ofA[2];
      UNROLL
      for (int half = 0; half < 2; half++) {
        const bool isThere = from >= rowOf(2 * half);
        ofP[half] = isThere ? valueOf(squares.dp, from, rowOf(2 * half)) : 0.0f;
        ofA[half] = isThere ? valueOf(squares.da, from, rowOf(2 * half)) : 0.0f;
      }
      UNROLL
      for (int j = 0; j < BLOCKS; j++) {
        const Pair query = pairOf(in.q, own.first + from, channelOf(j, 0), own, r);
        const Pair key = pairOf(in.k, own.first + from, channelOf(j, 0), own, r);
        UNROLL
        for (int e = 0; e < 4; e++) {
          const int row = rowOf(e);
          float& product = decay[j].v[e];
          product = from == row ? 1.0f : from > row ? product * squares.factors[from][channelOf(j, e)] : 0.0f;
          const float slope = __fmaf_rn(ofP[e / 2], query.at[e % 2], ofA[e / 2] * key.at[e % 2]);
          earlier[j].v[e] = __fmaf_rn(slope, product, earlier[j].v[e]);
        }
      }
    }
  }

  /** dQ, dK, and dg, which is the sum of dc from a token to the chunk's end. */
  static DEVICE void storeGradients(Shared& shared, Inputs in, Outputs out, const Sums& dq, const Sums& later, const Sums& earlier,
                                    Own own, Chunks r) {
    auto& dc = shared.squares.factors;
    // The decays are no longer read.
    __syncthreads();
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int row = rowOf(2 * half), token = own.first + row;
      float ofRow = 0;
      UNROLL
      for (int j = 0; j < BLOCKS; j++) {
        const int channel = channelOf(j, 0);
        const Pair query = pairOf(in.q, token, channel, own, r), key = pairOf(in.k, token, channel, own, r);
        float dk[2];
        UNROLL
        for (int e = 0; e < 2; e++) {
          const int i = 2 * half + e;
          const float ofSum = __fmaf_rn(query.at[e], dq[j].v[i], key.at[e] * (later[j].v[i] - earlier[j].v[i]));
          if constexpr (OF_CHANNELS) dc[row][channel + e] = ofSum;
          ofRow += ofSum;
          dk[e] = later[j].v[i] + earlier[j].v[i];
        }
        if (token >= own.end || channel >= r.keyDim) continue;
        const uint64 at = token * keyStride(r) + own.head * r.keyDim + channel;
        *reinterpret_cast<uint32*>(out.dq + at) = packBf16(dq[j].v[2 * half], dq[j].v[2 * half + 1]);
        *reinterpret_cast<uint32*>(out.dk + at) = packBf16(dk[0], dk[1]);
      }
      if constexpr (!OF_CHANNELS) {
        UNROLL
        for (int distance = 1; distance < 4; distance *= 2) ofRow += __shfl_xor_sync(0xffffffffu, ofRow, distance);
        if (lane() % 4 == 0) shared.ofRows[threadIdx.x / 128][row] = ofRow;
      }
    }
    __syncthreads();
    if constexpr (OF_CHANNELS) {
      const int channel = threadIdx.x;
      if (channel >= r.keyDim) return;
      float sum = ofEnd(shared, channel);
      for (int row = CHUNK - 1; row >= 0; row--) {
        sum += dc[row][channel];
        // The last token of a pair's earlier block.
        for (int half = STEP; half < CHUNK; half *= 2) {
          if ((row + 1) % (2 * half) != half) continue;
          const int first = (row + 1 - half) / STEP;
          for (int i = first; i < first + 2 * half / STEP; i++) sum += shared.crossing[levelOf(half)][i][channel];
        }
        if (own.first + row >= own.end) continue;
        out.dg[(own.first + row) * keyStride(r) + own.head * r.keyDim + channel] = sum;
      }
    } else {
      if (threadIdx.x < 32) {
        float total = 0;
        for (int channel = threadIdx.x; channel < D; channel += 32) total += ofEnd(shared, channel);
        total = sumOfWarp(total);
        if (threadIdx.x == 0) shared.total = total;
      }
      __syncthreads();
      const int token = own.first + static_cast<int>(threadIdx.x);
      if (threadIdx.x >= CHUNK || token >= own.end) return;
      float sum = shared.total;
      for (int row = CHUNK - 1; row >= static_cast<int>(threadIdx.x); row--) sum += shared.ofRows[0][row] + shared.ofRows[1][row];
      out.dg[static_cast<uint64>(token) * r.heads + own.head] = sum;
    }
  }

  /** What dc_C of a channel gets besides. */
  static DEVICE float ofEnd(Shared& shared, int channel) {
    float carried = 0, sum = 0;
    for (int share = 0; share < SHARES; share++) carried += shared.carried[share][channel];
    for (int rows = 0; rows < CHUNK / STEP; rows++) sum += shared.atEnd[rows][channel];
    return __fmaf_rn(shared.decays.fromBegin(CHUNK - 1, channel), carried, sum);
  }
};

KERNEL(deltaGradients64, GRADIENT_THREADS, 1, const bf16* q, const bf16* k, const float* beta, const float* g, const bf16* dy, const bf16* u,
       const bf16* z, const bf16* states, const bf16* dStates, bf16* dq, bf16* dk, float* dBeta, float* dg, const int* chunks, Chunks r) {
  ChunkGradients<64, false>::run({q, k, dy, u, z, states, dStates, beta, g}, {dq, dk, dBeta, dg}, chunks, r);
}
KERNEL(deltaGradients128, GRADIENT_THREADS, 1, const bf16* q, const bf16* k, const float* beta, const float* g, const bf16* dy, const bf16* u,
       const bf16* z, const bf16* states, const bf16* dStates, bf16* dq, bf16* dk, float* dBeta, float* dg, const int* chunks, Chunks r) {
  ChunkGradients<128, false>::run({q, k, dy, u, z, states, dStates, beta, g}, {dq, dk, dBeta, dg}, chunks, r);
}
KERNEL(deltaGradientsOfChannels64, GRADIENT_THREADS, 1, const bf16* q, const bf16* k, const float* beta, const float* g, const bf16* dy, const bf16* u,
       const bf16* z, const bf16* states, const bf16* dStates, bf16* dq, bf16* dk, float* dBeta, float* dg, const int* chunks, Chunks r) {
  ChunkGradients<64, true>::run({q, k, dy, u, z, states, dStates, beta, g}, {dq, dk, dBeta, dg}, chunks, r);
}
KERNEL(deltaGradientsOfChannels128, GRADIENT_THREADS, 1, const bf16* q, const bf16* k, const float* beta, const float* g, const bf16* dy, const bf16* u,
       const bf16* z, const bf16* states, const bf16* dStates, bf16* dq, bf16* dk, float* dBeta, float* dg, const int* chunks, Chunks r) {
  ChunkGradients<128, true>::run({q, k, dy, u, z, states, dStates, beta, g}, {dq, dk, dBeta, dg}, chunks, r);
}
