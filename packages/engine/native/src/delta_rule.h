// What the forward and the backward pass of the gated delta rule share: shapes, and the work on a chunk of tokens.
//
// For each value head, S ← e^g·S, u = β·(v − Sᵀk), S ← S + k·uᵀ, o = Sᵀq (Yang et al., Gated Delta Networks, 2024), where q and k
// have unit length and q is divided by √Dk. In a chunk of C tokens that begins with the state S₀ (Yang et al., Parallelizing
// Linear Transformers with the Delta Rule, 2024), with c the sums of g from the chunk's beginning on, Γ_ij = e^(c_i − c_j) for
// j ≤ i, E_i = e^(c_i), F_i = e^(c_C − c_i):
//
//   L = β_i·Γ_ij·k_i·k_j below the diagonal    P = Γ_ij·q_i·k_j, the diagonal included
//   (I + L)·U = β·M with M = V − E·K·S₀        O = E·Q·S₀ + P·U        S = e^(c_C)·S₀ + (F·K)ᵀ·U
//
// Decays are summed, and their differences taken, in double precision, in base 2.

#pragma once

#include <cstddef>
#include <utility>

#include "documents.h"
#include "lanes.h"
#include "logarithm.h"
#include "scratch.h"
#include "simd.h"
#include "tiles.h"

namespace sluice::delta {

/// Tokens of a chunk.
constexpr size_t kChunk = 64;
/// Tokens that are treated together, also where a triangle is cut off: a whole number of any machine's tiles.
constexpr size_t kStep = 8;
static_assert(kStep % kRows == 0 && kChunk % kStep == 0);
/// Channels of a head are padded with zeros to a multiple of this.
constexpr size_t kChannelStep = 16;
/// Added to a sum of squares under the root.
constexpr float kEpsilon = 1e-6f;

/// Documents of N tokens in all; each key head is shared by the value heads of its group. A row holds the queries of all key
/// heads, their keys, and the values of all value heads; a row of logits those of β of all value heads, and then of their decay.
struct Shape {
  Documents documents;
  size_t keyHeads, valueHeads, keyDim, valueDim;
  /// The largest β: 1, or 2 where k may turn a direction of the state around.
  float most;

  size_t group() const { return valueHeads / keyHeads; }
  size_t keyChannels() const { return roundUp(keyDim, kChannelStep); }
  size_t valueChannels() const { return roundUp(valueDim, kChannelStep); }
  size_t stateSize() const { return keyChannels() * valueChannels(); }
  size_t width() const { return 2 * keyHeads * keyDim + valueHeads * valueDim; }
  size_t keyAt(size_t head) const { return (keyHeads + head) * keyDim; }
  size_t valueAt(size_t head) const { return 2 * keyHeads * keyDim + head * valueDim; }
  size_t outputWidth() const { return valueHeads * valueDim; }
  /// Pairs of document and key head: they have nothing to do with each other.
  size_t items() const { return documents.count() * keyHeads; }
};

/// A pair of document and key head. Chunks are counted from the document's first token.
struct Item {
  size_t document, keyHead, firstRow, length, firstValueHead;

  Item(const Shape& shape, size_t item)
      : document(item / shape.keyHeads), keyHead(item % shape.keyHeads), firstRow(shape.documents.begin(document)),
        length(shape.documents.length(document)), firstValueHead(keyHead * shape.group()) {}

  size_t chunks() const { return (length + kChunk - 1) / kChunk; }
};

/// Tokens of one chunk. Rows beyond them, up to a whole number of steps, hold zeros, which change nothing.
struct Chunk {
  size_t firstRow, count;

  Chunk(const Item& item, size_t index)
      : firstRow(item.firstRow + index * kChunk), count(std::min(kChunk, item.length - index * kChunk)) {}

  size_t rows() const { return roundUp(count, kStep); }
};

/// The inputs of both passes.
struct Inputs {
  const float *heads, *logits;  // [N][width], [N][2 · value heads]
  const float *aLog, *dtBias;   // [value heads]
};

/// What of the summed axis a step of rows takes.
struct Range {
  size_t begin, end;
};

/// c[rows][columns] = keep·c + A·B, where the rows of a step take the products of `range(first row)` only. Rows are a whole
/// number of steps, columns one of vectors. With `keep` 0, c need not hold numbers.
template <Left left, size_t vectors, typename Depth>
inline void multiplyColumns(const float* a, size_t aStride, const float* b, size_t bStride, size_t rows, const Depth& range,
                            float keep, float* c, size_t cStride) {
  for (size_t row = 0; row < rows; row += kRows) {
    const Range depth = range(row / kStep * kStep);
    Vec tile[kRows][vectors] = {};
    if (keep != 0) {
      loadTile(c + row * cStride, cStride, tile);
#pragma GCC unroll 8
      for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (size_t v = 0; v < vectors; ++v) tile[r][v] *= keep;
      }
    }
    const float* from = left == Left::rows ? a + row * aStride + depth.begin : a + depth.begin * aStride + row;
    addProduct<left>(from, aStride, b + depth.begin * bStride, bStride, depth.end - depth.begin, tile);
    storeTile(c + row * cStride, cStride, tile);
  }
}
template <Left left, typename Depth>
inline void multiply(const float* a, size_t aStride, const float* b, size_t bStride, size_t rows, size_t columns,
                     const Depth& range, float keep, float* c, size_t cStride) {
  constexpr size_t wide = kVectors * kWidth;
  size_t column = 0;
  for (; column + wide <= columns; column += wide) {
    multiplyColumns<left, kVectors>(a, aStride, b + column, bStride, rows, range, keep, c + column, cStride);
  }
  for (; column < columns; column += kWidth) {
    multiplyColumns<left, 1>(a, aStride, b + column, bStride, rows, range, keep, c + column, cStride);
  }
}

/// All of the summed axis.
inline auto allOf(size_t depth) {
  return [depth](size_t) { return Range{0, depth}; };
}
/// Of a square, what lies up to the diagonal, in whole steps.
inline Range upToDiagonal(size_t row) { return {0, row + kStep}; }
/// Of a square that is read column after column, what lies from the diagonal on.
inline auto fromDiagonal(size_t rows) {
  return [rows](size_t row) { return Range{row, rows}; };
}

/// Takes arrays out of one piece of memory.
class Pieces {
 public:
  explicit Pieces(float* memory) : next_(memory) {}
  float* take(size_t count) { return std::exchange(next_, next_ + roundUp(count, 16)); }

 private:
  float* next_;
};

inline float dot(const float* a, const float* b, size_t count) {
  return sumOfLanes<4>(count, [&](Vec sum, size_t i, size_t lanes) {
    return fused(loadUpTo(a + i, lanes), loadUpTo(b + i, lanes), sum);
  });
}

/// to[rows][columns] = from, each row times its factor, with the opposite sign where asked.
inline void scaleRows(const float* from, const float* factor, float sign, size_t rows, size_t columns, float* to) {
  for (size_t row = 0; row < rows; ++row) {
    const float scale = sign * factor[row];
    for (size_t c = 0; c < columns; c += kWidth) store(to + row * columns + c, load(from + row * columns + c) * scale);
  }
}

/// Queries and keys of one chunk, which the value heads of a group share.
struct Keys {
  float *q, *k;                // [64][key channels]: normalised
  float *inverseQ, *inverseK;  // [64]: 1/√(Σx² + ε)
  float* turned;               // [key channels][64]: kᵀ
  float *qk, *kk;              // [64][64]: q_i·k_j and k_i·k_j, in the steps up to the diagonal

  static size_t size(const Shape& shape) { return (3 * shape.keyChannels() + 2 + 2 * kChunk) * kChunk; }

  Keys(const Shape& shape, Pieces& memory) {
    const size_t rows = kChunk * shape.keyChannels();
    q = memory.take(rows), k = memory.take(rows), turned = memory.take(rows);
    inverseQ = memory.take(kChunk), inverseK = memory.take(kChunk);
    qk = memory.take(kChunk * kChunk), kk = memory.take(kChunk * kChunk);
  }

  /// @param withQueries whether q and q_i·k_j are wanted too
  void prepare(const Shape& shape, const Inputs& in, const Item& item, const Chunk& chunk, bool withQueries);
};

/// Decay and β of one value head in one chunk.
struct Gates {
  float *beta, *logitB;    // [64]: β, and b
  float* logitA;           // [64]: a + dtBias
  float *begin, *end;      // [64]: E and F
  float* decays;           // [64][64]: Γ in the steps up to the diagonal, zeros above it
  double *g, *sums;        // [64]: g in base e; c in base 2
  float whole;             // e^(c_C)

  static size_t size() { return (5 + kChunk + 4) * kChunk; }

  explicit Gates(Pieces& memory) {
    for (float** to : {&beta, &logitB, &logitA, &begin, &end}) *to = memory.take(kChunk);
    decays = memory.take(kChunk * kChunk);
    g = reinterpret_cast<double*>(memory.take(2 * kChunk)), sums = reinterpret_cast<double*>(memory.take(2 * kChunk));
  }

  void prepare(const Shape& shape, const Inputs& in, const Chunk& chunk, size_t valueHead);
};

/// Rows of one head in a chunk, each at unit length times `scale`; inverse[64] gets 1/√(Σx² + ε), zeros beyond the rows.
void normalise(const Shape& shape, const float* from, const Chunk& chunk, float scale, float* rows, float* inverse);

/// From the gradients of the normalised rows n = s·x/√(Σx² + ε) to those of x: r·s·(d − n̂·(n̂·d)), with n̂ = n/s.
void normaliseBack(const Shape& shape, const float* n, const float* inverse, float scale, const Chunk& chunk, float* d, float* to);

/// e^aLog
float decayRate(float aLog);

/// square_ij = −β_i·Γ_ij·kk_ij below the diagonal, zeros elsewhere: −L.
void fillTransitions(const Chunk& chunk, const Keys& keys, const Gates& gates, float* square);

/// m[rows][value channels] = V − E·K·S₀, and u the solution of (I + L)·U = β·M. @param heads, beta [N][width], [64]
/// @param transitions, negativeK −L, −E·K
void solve(const Shape& shape, const float* heads, const Chunk& chunk, size_t valueHead, const float* beta,
           const float* transitions, const float* negativeK, const float* state, float* m, float* u);

/// z = (I + L)ᵀ⁻¹·z, from the last step to the first. @param transitions −L
void solveTransposed(const Shape& shape, const Chunk& chunk, const float* transitions, float* z);

/// S = e^(c_C)·S₀ + (F·K)ᵀ·U. @param keys F·K
void advance(const Shape& shape, const Chunk& chunk, const Gates& gates, const float* keys, const float* u, float* state);

/// From the arguments from `first` on: starts[documents + 1], documents, key heads, value heads, Dk, Dv, whether β goes up to 2.
Shape shapeOf(const Arguments& args, size_t first);

}  // namespace sluice::delta
