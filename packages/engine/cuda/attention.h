/** What the kernels of attention share. */
#pragma once

#include "tile.h"

constexpr int ATTENTION_THREADS = 128;
/** Rows of a tile of queries, or of keys: 16 for each warp of a block that owns them. Tiles are counted from a document's first token. */
constexpr int ROWS = 64;

/** What a block owns: 64 rows from `first` on, of a document from `begin` until before `end`. */
struct Range {
  int first, begin, end;
};
DEVICE Range rangeOf(const int* ranges) { return {ranges[3 * blockIdx.x], ranges[3 * blockIdx.x + 1], ranges[3 * blockIdx.x + 2]}; }

struct Heads {
  int heads, keyValueHeads;
  /** Of a head, a multiple of 8. Tiles have D channels, of which those beyond are zeros. */
  int headDim;
  /** Gate logits of a row and head: one for each channel, 1, or 0. */
  int gates;
  /** Keys that a query sees, its own being the last; 0 for all. */
  int window;
  /** log₂ e / √headDim, and 1 / √headDim */
  float toLog2, scale;
  /** Where scores become cap · tanh(score / cap): cap · log₂ e, and 1 / (cap · √headDim); otherwise 0. */
  float capLog2, overCap;
};

DEVICE uint64 strideOf(int heads, Heads of) { return static_cast<uint64>(heads) * of.headDim; }

/** What a score becomes, to base 2. */
template <bool IS_CAPPED>
DEVICE float exponentOf(float score, Heads heads) {
  if constexpr (IS_CAPPED) return hyperbolicTangent(score * heads.overCap) * heads.capLog2;
  else return score * heads.toLog2;
}

DEVICE bool isSeen(int key, int query, Heads heads) { return key <= query && (heads.window == 0 || key > query - heads.window); }

/** Those of the block's own rows, `own` of them, that its document has end before this one. */
DEVICE int ownEnd(Range range, int own = ROWS) { return range.first + own < range.end ? range.first + own : range.end; }

/** The first tile of so many keys that one of the queries from `first` on sees. */
DEVICE int firstKeyTile(Range range, Heads heads, int rows) {
  const int before = range.first + 1 - heads.window - range.begin;
  return heads.window > 0 && before > 0 ? before / rows : 0;
}
/** The first tile of so many rows beyond the block's own rows. */
DEVICE int tilesUntil(Range range, int rows, int own = ROWS) { return (ownEnd(range, own) - 1 - range.begin) / rows + 1; }

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

/** The natural logarithm of a row's sum of exponentials, of which `top` is the largest exponent to base 2. */
DEVICE float logSumExpOf(float top, float total) {
  const double ofSum = total > 0 ? logarithm(static_cast<double>(total)) : static_cast<double>(total);
  return static_cast<float>(top * 0.693147180559945309417 + ofSum);
}

/** Lower than any exponent: that of a key that is not seen. */
DEVICE float lowestExponent() { return -__uint_as_float(0x7f800000u); }

/**
 * The softmax of a lane's two rows, tile after tile: of each the largest exponent so far and the sum of exponentials, of which a lane adds
 * up the keys that it has and four come together at the end, and what the sums of the tiles before must be multiplied by.
 */
struct Softmax {
  float top[2] = {lowestExponent(), lowestExponent()}, sum[2] = {0, 0}, shrink[2] = {1, 1};

  /** A row's exponents for the keys of a tile become weights. @param at those of the lane: two for each eight keys */
  template <typename Exponents>
  DEVICE void weigh(int half, Exponents at) {
    float most = top[half];
    UNROLL
    for (int j = 0; j < ROWS / 8; j++) most = fmaxf(fmaxf(most, at(j, 0)), at(j, 1));
    UNROLL
    for (int distance = 1; distance < 4; distance *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, distance));
    // A row may see nothing of its first tile.
    const float shift = most == lowestExponent() ? 0.0f : most;
    shrink[half] = exponential2(top[half] - shift);
    top[half] = most;
    float added = 0;
    UNROLL
    for (int j = 0; j < ROWS / 8; j++) {
      UNROLL
      for (int i = 0; i < 2; i++) {
        at(j, i) = exponential2(at(j, i) - shift);
        added += at(j, i);
      }
    }
    sum[half] = __fmaf_rn(sum[half], shrink[half], added);
  }
};

/** Where attention writes, and the gate of what it does. */
struct AttentionOutput {
  const bf16* gate;
  bf16* y;
  float* logSumExp;
  /** Of all documents. */
  int rows;
};

/**
 * Writes a query's channels and the logarithm of its sum. @param half which of the lane's two rows it is @param at its sums over the keys:
 * two for each eight of D channels
 */
template <int D, typename Sums>
DEVICE void storeOutput(AttentionOutput to, const Softmax& of, int half, int query, int end, Sums at, Heads heads) {
  const int head = blockIdx.y, lane = threadIdx.x % 32;
  float total = of.sum[half];
  UNROLL
  for (int distance = 1; distance < 4; distance *= 2) total += __shfl_xor_sync(0xffffffffu, total, distance);
  if (query >= end) return;
  if (lane % 4 == 0) to.logSumExp[static_cast<uint64>(head) * to.rows + query] = logSumExpOf(of.top[half], total);
  const float inverse = __fdiv_rn(1.0f, total);
  const uint64 row = static_cast<uint64>(query) * heads.heads + head;
  UNROLL
  for (int j = 0; j < D / 8; j++) {
    const int channel = j * 8 + lane % 4 * 2;
    if (channel >= heads.headDim) continue;
    float values[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
      const int place = heads.gates == 1 ? 0 : channel + i;
      const float open = heads.gates > 0 ? sigmoid(toFloat(to.gate[row * heads.gates + place])) : 1.0f;
      values[i] = at(j, i) * inverse * open;
    }
    *reinterpret_cast<uint32*>(to.y + row * heads.headDim + channel) = packBf16(values[0], values[1]);
  }
}

/** sums += 16 rows of `left` from `row` on · COUNT rows of `right` from `column` on, summed over D channels: scores of 16 rows. */
template <int D, int COUNT, int LINES>
DEVICE void addScores(FragmentC (&sums)[COUNT / 8], Tile<ROWS, D>& left, int row, Tile<LINES, D>& right, int column) {
  UNROLL
  for (int d = 0; d < D; d += 16) {
    const FragmentA a = left.left(row, d);
    UNROLL
    for (int j = 0; j < COUNT / 8; j += 2) {
      FragmentB first, second;
      right.right(first, second, column + j * 8, d);
      sums[j] = mma(sums[j], a, first);
      sums[j + 1] = mma(sums[j + 1], a, second);
    }
  }
}

/** sums += weights of 16 rows with COUNT others · those of `values`, from `row` on, OUT channels of them from `channel` on. */
template <int OUT, int COUNT, int LINES, int D>
DEVICE void addWeighted(FragmentC (&sums)[OUT / 8], const FragmentC (&weights)[COUNT / 8], Tile<LINES, D>& values, int row, int channel) {
  UNROLL
  for (int i = 0; i < COUNT; i += 16) {
    const FragmentA a = operandOf(weights[i / 8], weights[i / 8 + 1]);
    UNROLL
    for (int j = 0; j < OUT / 8; j += 2) {
      FragmentB first, second;
      values.rightTransposed(first, second, row + i, channel + j * 8);
      sums[j] = mma(sums[j], a, first);
      sums[j + 1] = mma(sums[j + 1], a, second);
    }
  }
}

/** Writes OUT channels, those that are there, of the block's 16 rows of a warp, times a factor, as bf16. */
template <int OUT>
DEVICE void storeRows(bf16* to, uint64 stride, const FragmentC (&sums)[OUT / 8], float factor, Range range, int channels) {
  const int lane = threadIdx.x % 32;
  UNROLL
  for (int half = 0; half < 2; half++) {
    const int row = range.first + static_cast<int>(threadIdx.x / 32) * 16 + half * 8 + lane / 4;
    if (row >= range.end) continue;
    UNROLL
    for (int j = 0; j < OUT / 8; j++) {
      if (j * 8 >= channels) continue;
      *reinterpret_cast<uint32*>(to + row * stride + j * 8 + lane % 4 * 2) =
          packBf16(sums[j].v[2 * half] * factor, sums[j].v[2 * half + 1] * factor);
    }
  }
}
