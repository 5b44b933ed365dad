// What the forward and the backward pass of Kimi Delta Attention (arXiv 2510.26692 §3) share: the gated delta rule of
// delta_rule.h with a decay of each channel of a key. For each head, S ← diag(e^g)·S, u = β·(v − Sᵀk), S ← S + k·uᵀ, o = Sᵀq. In a
// chunk of C tokens, with c the sums of g from the chunk's beginning on, a row of C for each channel, E = e^c, F = e^(c_C − c):
//
//   A_ij = Σ_d k_id·k_jd·e^(c_id − c_jd) for j < i      P_ij = Σ_d q_id·k_jd·e^(c_id − c_jd) for j ≤ i
//   (I + L)·U = β·M with L = β·A, M = V − (E⊙K)·S₀      O = (E⊙Q)·S₀ + P·U      S = diag(e^(c_C))·S₀ + (F⊙K)ᵀ·U
//
// A and P are products of small matrices but for their diagonal blocks of eight tokens. At each level (32, 16, 8) tokens are taken in
// pairs of blocks, and with r = c of the earlier block's last token, e^(c_i − c_j) = e^(c_i − r)·e^(r − c_j): neither factor is above
// 1, however fast channels decay.

#pragma once

#include "delta_rule.h"

namespace sluice::delta {

/// The inputs of both passes; each head has its own queries, keys and values.
struct ChannelInputs {
  const float *heads, *beta, *decay;  // [N][width], [N][heads], [N][heads · Dk]
  const float *aLog, *dtBias;         // [heads], [heads · Dk]
};

/// to[count] = 2^(a − b)
inline void decayBetween(const double* a, const double* b, size_t count, float* to) {
  for (size_t c = 0; c < count; ++c) to[c] = static_cast<float>(a[c] - b[c]);
  for (size_t c = 0; c < count; c += kWidth) store(to + c, exponential2(load(to + c)));
}

/// to = a ⊙ b, with the opposite sign where asked.
inline void multiplyElements(const float* a, const float* b, float sign, size_t count, float* to) {
  for (size_t i = 0; i < count; i += kWidth) store(to + i, sign * load(a + i) * load(b + i));
}

/// Calls `body(first, upper)` for the pairs of blocks of `half` tokens from `first` on, of which the later one has `upper`.
template <typename Body>
inline void eachPair(size_t half, size_t rows, const Body& body) {
  for (size_t first = 0; first + half < rows; first += 2 * half) body(first, std::min(half, rows - first - half));
}

/// One head in one chunk.
struct ChannelChunk {
  float *q, *k;                // [64][key channels]: normalised
  float *inverseQ, *inverseK;  // [64]: 1/√(Σx² + ε)
  float *beta, *logitB;        // [64]: β, and b
  float *logits, *g;           // [64][key channels]: a + dtBias, and g in base e
  double* sums;                // [64][key channels]: c in base 2
  float *begin, *end, *whole;  // [64][key channels], [64][key channels], [key channels]: E, F, e^(c_C)
  float *a, *p;                // [64][64]: A and P in the steps up to the diagonal, zeros above it
  float *scales;               // [64][key channels]: of a level, e^(c_i − r) of later blocks and e^(r − c_j) of earlier ones
  float *levelQ, *levelK;      // [64][key channels]: q and k times these
  float *turned;               // [key channels][64]: levelKᵀ
  float *decay, *decayed;      // [key channels]: of one pair of tokens, e^(c_i − c_j), and k_j times that

  static size_t size(const Shape& shape) {
    return (10 * kChunk + 3) * shape.keyChannels() + 2 * kChunk * shape.keyChannels() + (4 + 2 * kChunk) * kChunk;
  }

  ChannelChunk(const Shape& shape, Pieces& memory) {
    const size_t rows = kChunk * shape.keyChannels();
    for (float** to : {&q, &k, &logits, &g, &begin, &end, &scales, &levelQ, &levelK, &turned}) *to = memory.take(rows);
    for (float** to : {&whole, &decay, &decayed}) *to = memory.take(shape.keyChannels());
    for (float** to : {&inverseQ, &inverseK, &beta, &logitB}) *to = memory.take(kChunk);
    sums = reinterpret_cast<double*>(memory.take(2 * rows));
    a = memory.take(kChunk * kChunk), p = memory.take(kChunk * kChunk);
  }

  /// @param withQueries whether q and P are wanted too
  void prepare(const Shape& shape, const ChannelInputs& in, const Item& item, const Chunk& chunk, bool withQueries);
  /// Fills `scales`, `levelQ` and `levelK`.
  void prepareLevel(size_t half, size_t rows, size_t channels, bool withQueries);
};

/// The arguments 0 to 4 of both passes.
inline ChannelInputs inputsOf(const Arguments& args, const Shape& shape) {
  const size_t tokens = shape.documents.tokens(), heads = shape.keyHeads, channels = heads * shape.keyDim;
  return {args.floats(0, tokens * shape.width()), args.floats(1, tokens * heads), args.floats(2, tokens * channels),
          args.floats(3, heads), args.floats(4, channels)};
}

/// square = −β·A below the diagonal, zeros elsewhere: −L.
void fillTransitions(const Chunk& chunk, const ChannelChunk& own, float* square);

/// S = diag(e^(c_C))·S₀ + (F⊙K)ᵀ·U. @param keys F⊙K
void advance(const Shape& shape, const Chunk& chunk, const float* whole, const float* keys, const float* u, float* state);

/// From the arguments from `first` on: starts[documents + 1], documents, heads, Dk, Dv.
Shape channelShapeOf(const Arguments& args, size_t first);

}  // namespace sluice::delta
