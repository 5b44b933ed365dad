/**
 * What the kernels of delta rules in chunks share (Yang et al., Parallelizing Linear Transformers with the Delta Rule, 2024; Gated Delta
 * Networks, arXiv 2412.06464; Kimi Linear, arXiv 2510.26692). In a chunk of C tokens that begins with the state S₀ [Dk, Dv], with c the sums
 * of g from its beginning on (of all channels, or of each), E = e^c and F = e^(c_C − c):
 *
 *   A_ij = Σ_d k_id·k_jd·e^(c_id − c_jd) for j < i    P_ij = scale·Σ_d q_id·k_jd·e^(c_id − c_jd) for j ≤ i    T = (I + β·A)⁻¹·β
 *   W = P·T    X = Tᵀ·(F⊙K)    M = V − (E⊙K)·S₀    O = scale·(E⊙Q)·S₀ + W·M    S = e^(c_C)⊙S₀ + Xᵀ·M
 *
 * and backward, from dO and the gradient dS of the state after the chunk:
 *
 *   Z = Wᵀ·dO + X·dS    dV = Z    dS₀ = scale·(E⊙Q)ᵀ·dO − (E⊙K)ᵀ·Z + e^(c_C)⊙dS    U = T·M    dP = dO·Uᵀ    G = −Z·Uᵀ for j < i
 *   dβ_i = Z_i·U_i/β_i²    dQ_i = scale·(E⊙(dO·S₀ᵀ)_i + Σ_j dP_ij·k_j⊙e^(c_i − c_j))
 *   R_i = −E⊙(Z·S₀ᵀ)_i + Σ_j G_ij·k_j⊙e^(c_i − c_j)    B_j = F⊙(U·dSᵀ)_j + Σ_i (scale·dP_ij·q_i + G_ij·k_i)⊙e^(c_i − c_j)
 *   dK = R + B    dc = q⊙dQ + k⊙(R − B), and dc_C also Σ_j k_j⊙F⊙(U·dSᵀ)_j + e^(c_C)⊙Σ_v S₀⊙dS
 *
 * where dg of a token is the sum of dc from it to the chunk's end. Products have bf16 operands and float sums, states are kept in float. Keys that
 * resemble each other make U small beside what it is the sum of, and O and S beside what U adds to them. So T comes of a substitution in
 * single precision, and W and X of operands in two parts, upper and lower halves; none of the three is rounded before it is whole, and in the
 * forward pass there is no U. No exponent is above 0.
 */
#pragma once

#include "tile.h"

constexpr int CHUNK_THREADS = 128;
/** Tokens of a chunk, which are counted from a document's first one; and of a block on its diagonal, which are a warp's. */
constexpr int CHUNK = 64, STEP = 16;
/** Value channels that a block takes together. */
constexpr int STRIP = 64;

struct Chunks {
  int heads, keyDim, valueDim;
  float scale;
};

/** Numbers of keys, and of values, from one token to the next. */
DEVICE uint64 keyStride(Chunks r) { return static_cast<uint64>(r.heads) * r.keyDim; }
DEVICE uint64 valueStride(Chunks r) { return static_cast<uint64>(r.heads) * r.valueDim; }
/** Where something of a chunk and head begins that takes `size` numbers. */
DEVICE uint64 ofChunk(int chunk, int head, int size, Chunks r) { return (static_cast<uint64>(chunk) * r.heads + head) * size; }

/** A block's chunk and head, and the rows of it. */
struct Own {
  int chunk, head, first, end;
};
DEVICE Own ownOf(const int* chunks) {
  const int chunk = blockIdx.x;
  return {chunk, static_cast<int>(blockIdx.y), chunks[2 * chunk], chunks[2 * chunk + 1]};
}

/** β, of which none is so small that nothing can be divided by it. */
DEVICE float betaOf(const float* beta, int row, Own own, Chunks r) {
  constexpr float LEAST = 9.094947017729282e-13f;
  if (row >= own.end) return 0.0f;
  const float b = beta[static_cast<uint64>(row) * r.heads + own.head];
  return b < LEAST ? LEAST : b;
}

/** Two neighbouring values, of which the first lies at an even place. */
struct Pair {
  float at[2];
};
DEVICE Pair unpack(uint32 word) { return {{__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)}}; }

/** Of a row of keys' channels in global memory; zeros where there is none. */
DEVICE Pair pairOf(const bf16* from, int row, int channel, Own own, Chunks r) {
  if (row >= own.end || channel >= r.keyDim) return {{0, 0}};
  return unpack(*reinterpret_cast<const uint32*>(from + row * keyStride(r) + own.head * r.keyDim + channel));
}

/** Eight neighbouring channels of a row; zeros where there is none. */
struct Octet {
  float at[8];
};
DEVICE Octet octetOf(const bf16* from, int row, int channel, Own own, Chunks r) {
  Octet values = {{0, 0, 0, 0, 0, 0, 0, 0}};
  if (row < own.end && channel < r.keyDim) {
    loadPack(values.at, from + row * keyStride(r) + own.head * r.keyDim, channel, r.keyDim, true);
  }
  return values;
}

/** The sums c of a chunk, of all channels or of each. */
template <int D, bool OF_CHANNELS>
struct DecaySums {
  static constexpr int WIDTH = OF_CHANNELS ? D : 1;
  float sums[CHUNK][WIDTH];

  static DEVICE float logarithm(const float* g, int row, int channel, Own own, Chunks r) {
    if (row >= own.end || (OF_CHANNELS && channel >= r.keyDim)) return 0.0f;
    const uint64 at = static_cast<uint64>(row) * r.heads + own.head;
    const float value = g[OF_CHANNELS ? at * r.keyDim + channel : at];
    // As far as e^g goes.
    return value < -87.0f ? -87.0f : value;
  }

  /** Adds up from the first token to the last; rows that are not there have 0. */
  template <int THREADS>
  DEVICE void fill(const float* g, Own own, Chunks r) {
    if constexpr (OF_CHANNELS) {
      for (int channel = threadIdx.x; channel < D; channel += THREADS) {
        float sum = 0;
        NO_UNROLL
        for (int row = 0; row < CHUNK; row += STEP) {
          UNROLL
          for (int i = row; i < row + STEP; i++) {
            sum += logarithm(g, own.first + i, channel, own, r);
            sums[i][channel] = sum;
          }
        }
      }
    } else {
      const int row = threadIdx.x;
      if (row >= CHUNK) return;
      float sum = 0;
      UNROLL
      for (int i = 0; i < CHUNK; i++) sum += i <= row ? logarithm(g, own.first + i, 0, own, r) : 0.0f;
      sums[row][0] = sum;
    }
  }

  DEVICE float sumOf(int row, int channel) const { return sums[row][OF_CHANNELS ? channel : 0]; }
  /** e^(c_later − c_earlier) */
  DEVICE float between(int later, int earlier, int channel) const { return exponential(sumOf(later, channel) - sumOf(earlier, channel)); }
  DEVICE float fromBegin(int row, int channel) const { return exponential(sumOf(row, channel)); }
  DEVICE float toEnd(int row, int channel) const { return between(CHUNK - 1, row, channel); }

  /**
   * With decays of channels, tokens are taken in pairs of blocks of `half`, and e^(c_i − c_j) = e^(c_i − c_m)·e^(c_m − c_j), where m is the
   * earlier block's last token: this is the one factor or the other.
   */
  DEVICE float scaleOf(int row, int channel, int half) const {
    const int middle = row / (2 * half) * 2 * half + half - 1;
    return row > middle ? between(row, middle, channel) : between(middle, row, channel);
  }
};

/** Keys and queries of a chunk as operands. */
template <int D>
struct ChunkOperands {
  Tile<CHUNK, D> keys, queries;

  /** As they are; waits for no barrier. */
  template <int THREADS>
  DEVICE void load(const bf16* q, const bf16* k, Own own, Chunks r) {
    keys.template begin<THREADS>(k + own.head * r.keyDim, keyStride(r), own.first, own.end, 0, r.keyDim);
    queries.template begin<THREADS>(q + own.head * r.keyDim, keyStride(r), own.first, own.end, 0, r.keyDim);
    commitCopies();
    waitForCopies<0>();
  }

  /** Times the decays to or from the middle of pairs of blocks; of queries the later blocks alone. */
  template <int THREADS>
  DEVICE void loadScaled(const bf16* q, const bf16* k, const DecaySums<D, true>& decays, int half, Own own, Chunks r) {
    for (int i = threadIdx.x; i < CHUNK * D / 8; i += THREADS) {
      const int row = i / (D / 8), channel = i % (D / 8) * 8;
      const Octet key = octetOf(k, own.first + row, channel, own, r), query = octetOf(q, own.first + row, channel, own, r);
      Pack<bf16> ofKey, ofQuery;
      UNROLL
      for (int x = 0; x < 8; x++) {
        const float scale = decays.scaleOf(row, channel + x, half);
        ofKey.at[x] = toBf16(key.at[x] * scale);
        ofQuery.at[x] = toBf16(query.at[x] * scale);
      }
      packAt(keys.at(row, channel)) = ofKey;
      if ((row & half) != 0) packAt(queries.at(row, channel)) = ofQuery;
    }
  }
};
