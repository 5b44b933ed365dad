// Kimi Delta Attention, backward, as delta_rule_backward.cc does it: states are computed once more from the document's beginning
// on, then chunks are taken from the last to the first, with dS, the gradient of the state after the chunk. With G = dL·β:
//
//   dU = Pᵀ·dO + (F⊙K)·dS      (I + L)ᵀ·Z = dU      dP = dO·Uᵀ, dL = −Z·Uᵀ, up to and below the diagonal
//   dV = β·Z      dβ = Σ Z ⊙ M + Σ_j dL ⊙ A
//   dQ_i = E_i⊙(dO·S₀ᵀ)_i + Σ_j dP_ij·k_j⊙e^(c_i − c_j)
//   R_i = −E_i⊙(β·Z·S₀ᵀ)_i + Σ_j G_ij·k_j⊙e^(c_i − c_j)      what K gets as the later of two tokens,
//   B_j = F_j⊙(U·dSᵀ)_j + Σ_i (dP_ij·q_i + G_ij·k_i)⊙e^(c_i − c_j)      and as the earlier one
//   dc = q⊙dQ + k⊙R − k⊙B, dc_C += Σ_j F_j⊙k_j⊙(U·dSᵀ)_j + e^(c_C)⊙Σ_v S₀⊙dS      dK = R + B
//   dS₀ = (E⊙Q)ᵀ·dO − (E⊙K)ᵀ·β·Z + diag(e^(c_C))·dS
//
// and dg is the sum of dc from the token to the chunk's end. The diagonal of P knows no decay, and is left out of dc.

#include <vector>

#include "addon.h"
#include "kimi_delta_rule.h"
#include "parallel.h"

namespace sluice::delta {

namespace {

struct Backward {
  Shape shape;
  ChannelInputs in;
  const float* dy;
  float *dHeads, *dBeta, *dDecay;
  // [documents][heads][key channels] each: of one document, gradients of dtBias, and terms of that of aLog.
  std::vector<double> dtBias, aLog;
};

/// Memory for one item; what is kept of every chunk follows.
struct Workspace {
  ChannelChunk own;
  float *transitions, *dA, *dP;         // [64][64]: −L; G and dP below the diagonal
  float *diagonal, *dBeta;              // [64]: of dP; of β
  float *beginQ, *beginK, *endK;        // [64][key channels]: E⊙Q, −E⊙K, F⊙K
  float *dQ, *later, *earlier, *part;   // [64][key channels]: dQ, R, B, and a product on its way there
  float *dO, *z, *turnedU;              // [64][value channels]; [value channels][64]
  float *turnedState, *turnedGradient;  // [value channels][key channels]
  double *dSums, *atEnd;                // [64][key channels], [key channels]: dc, and what dc_C gets besides
  float *dState;                        // [key channels][value channels]
  float *states, *m, *u;                // [chunks] of a state, of [64][value channels]

  static size_t size(const Shape& shape, size_t chunks) {
    const size_t keyRows = kChunk * shape.keyChannels(), valueRows = kChunk * shape.valueChannels();
    return ChannelChunk::size(shape) + 3 * kChunk * kChunk + 2 * kChunk + 9 * keyRows + 2 * shape.keyChannels() + 3 * valueRows +
           3 * shape.stateSize() + chunks * (shape.stateSize() + 2 * valueRows);
  }

  Workspace(const Shape& shape, size_t chunks, Pieces memory) : own(shape, memory) {
    const size_t keyRows = kChunk * shape.keyChannels(), valueRows = kChunk * shape.valueChannels();
    for (float** to : {&transitions, &dA, &dP}) *to = memory.take(kChunk * kChunk);
    for (float** to : {&diagonal, &dBeta}) *to = memory.take(kChunk);
    for (float** to : {&beginQ, &beginK, &endK, &dQ, &later, &earlier, &part}) *to = memory.take(keyRows);
    dSums = reinterpret_cast<double*>(memory.take(2 * keyRows));
    atEnd = reinterpret_cast<double*>(memory.take(2 * shape.keyChannels()));
    for (float** to : {&dO, &z, &turnedU}) *to = memory.take(valueRows);
    for (float** to : {&turnedState, &turnedGradient, &dState}) *to = memory.take(shape.stateSize());
    states = memory.take(chunks * shape.stateSize());
    m = memory.take(chunks * valueRows), u = memory.take(chunks * valueRows);
  }
};

/// The state before every chunk, and M and U of each.
void computeStates(const Backward& f, const Item& item, Workspace& w) {
  const Shape& shape = f.shape;
  const size_t size = shape.stateSize(), valueRows = kChunk * shape.valueChannels(), keyChannels = shape.keyChannels();
  std::fill(w.states, w.states + size, 0.0f);
  for (size_t index = 0; index < item.chunks(); ++index) {
    const Chunk chunk(item, index);
    const size_t elements = chunk.rows() * keyChannels;
    float *state = w.states + index * size, *u = w.u + index * valueRows;
    w.own.prepare(shape, f.in, item, chunk, false);
    fillTransitions(chunk, w.own, w.transitions);
    multiplyElements(w.own.k, w.own.begin, -1, elements, w.beginK);
    solve(shape, f.in.heads, chunk, item.keyHead, w.own.beta, w.transitions, w.beginK, state, w.m + index * valueRows, u);
    if (index + 1 == item.chunks()) continue;
    std::copy_n(state, size, state + size);
    multiplyElements(w.own.k, w.own.end, 1, elements, w.endK);
    advance(shape, chunk, w.own.whole, w.endK, u, state + size);
  }
}

/// y += x ⊙ factor
void addElements(const float* x, const float* factor, size_t count, float* y) {
  for (size_t i = 0; i < count; i += kWidth) store(y + i, fused(load(x + i), load(factor + i), load(y + i)));
}

/// From dO·Uᵀ and Z·Uᵀ in `dP` and `dA`: the gradients of P below the diagonal and on it, G, and what β gets.
void differentiateSquares(const Chunk& chunk, Workspace& w) {
  for (size_t i = 0; i < chunk.rows(); ++i) {
    const size_t columns = roundUp(i + 1, kChannelStep);
    float *dP = w.dP + i * kChunk, *dA = w.dA + i * kChunk;
    w.diagonal[i] = dP[i];
    std::fill(dP + i, dP + columns, 0.0f);
    std::fill(dA + i, dA + columns, 0.0f);
    w.dBeta[i] -= dot(dA, w.own.a + i * kChunk, i);
    for (size_t j = 0; j < columns; j += kWidth) store(dA + j, load(dA + j) * -w.own.beta[i]);
  }
}

/// Adds to dQ, R and B what goes through A and P.
void throughSquares(size_t rows, size_t channels, Workspace& w) {
  ChannelChunk& own = w.own;
  for (size_t half = kChunk / 2; half >= kStep; half /= 2) {
    if (half >= rows) continue;
    own.prepareLevel(half, rows, channels, true);
    eachPair(half, rows, [&](size_t first, size_t upper) {
      const size_t row = first + half, at = first * channels, later = row * channels, square = row * kChunk + first;
      const auto fromEarlier = [&](const float* gradient, float* to) {
        multiply<Left::rows>(gradient + square, kChunk, own.levelK + at, channels, upper, channels, allOf(half), 0, w.part, channels);
        addElements(w.part, own.scales + later, upper * channels, to + later);
      };
      fromEarlier(w.dP, w.dQ);
      fromEarlier(w.dA, w.later);
      const auto fromLater = [&](const float* gradient, const float* right, float keep) {
        multiply<Left::columns>(gradient + square, kChunk, right + later, channels, half, channels, allOf(upper), keep, w.part,
                                channels);
      };
      fromLater(w.dP, own.levelQ, 0);
      fromLater(w.dA, own.levelK, 1);
      addElements(w.part, own.scales + at, half * channels, w.earlier + at);
    });
  }
  for (size_t i = 0; i < rows; ++i) {
    const float *q = own.q + i * channels, *k = own.k + i * channels;
    float *dQ = w.dQ + i * channels, *later = w.later + i * channels;
    for (size_t j = i / kStep * kStep; j < i; ++j) {
      const float dP = w.dP[i * kChunk + j], dA = w.dA[i * kChunk + j];
      decayBetween(own.sums + i * channels, own.sums + j * channels, channels, own.decay);
      for (size_t c = 0; c < channels; c += kWidth) {
        const Vec decay = load(own.decay + c), key = load(own.k + j * channels + c) * decay;
        float* earlier = w.earlier + j * channels + c;
        store(dQ + c, fused(key, dP, load(dQ + c)));
        store(later + c, fused(key, dA, load(later + c)));
        store(earlier, fused(decay, fused(load(q + c), dP, load(k + c) * dA), load(earlier)));
      }
    }
  }
}

/// Gradients of the logits of β and of the decays from those of β and c.
void finishGates(Backward& f, const Item& item, const Chunk& chunk, Workspace& w) {
  const Shape& shape = f.shape;
  const size_t channels = shape.keyChannels(), head = item.keyHead, width = shape.keyHeads * shape.keyDim;
  const size_t sums = (item.document * shape.keyHeads + head) * channels;
  const double rate = decayRate(f.in.aLog[head]);
  float open[kChunk];
  for (size_t i = 0; i < kChunk; i += kWidth) store(open + i, sigmoid(load(w.own.logitB + i)));
  double *dtBias = f.dtBias.data() + sums, *aLog = f.aLog.data() + sums, *later = w.atEnd;
  for (size_t i = chunk.count; i-- > 0;) {
    f.dBeta[(chunk.firstRow + i) * shape.keyHeads + head] = w.dBeta[i] * (open[i] * (1.0f - open[i]));
    float *slopes = w.own.logits + i * channels, *to = f.dDecay + (chunk.firstRow + i) * width + head * shape.keyDim;
    const float* g = w.own.g + i * channels;
    for (size_t c = 0; c < channels; c += kWidth) store(slopes + c, sigmoid(load(slopes + c)));
    for (size_t c = 0; c < shape.keyDim; ++c) {
      later[c] += w.dSums[i * channels + c];
      const double d = -later[c] * rate * static_cast<double>(slopes[c]);
      to[c] = static_cast<float>(d);
      dtBias[c] += d;
      aLog[c] += later[c] * static_cast<double>(g[c]);
    }
  }
}

/// The way of one head through one chunk. `dState` is of the state after the chunk, and then of that before it.
void differentiateChunk(Backward& f, const Item& item, const Chunk& chunk, const float* state, const float* m, const float* u,
                        Workspace& w) {
  const Shape& shape = f.shape;
  ChannelChunk& own = w.own;
  const size_t rows = chunk.rows(), channels = shape.valueChannels(), keyChannels = shape.keyChannels(), head = item.keyHead;
  const size_t elements = rows * keyChannels;
  own.prepare(shape, f.in, item, chunk, true);
  fillTransitions(chunk, own, w.transitions);
  multiplyElements(own.q, own.begin, 1, elements, w.beginQ);
  multiplyElements(own.k, own.begin, -1, elements, w.beginK);
  multiplyElements(own.k, own.end, 1, elements, w.endK);
  copyRows(f.dy + chunk.firstRow * shape.outputWidth() + head * shape.valueDim, shape.outputWidth(), chunk.count,
           shape.valueDim, w.dO, kChunk, channels);

  multiply<Left::columns>(own.p, kChunk, w.dO, channels, rows, channels, fromDiagonal(rows), 0, w.z, channels);
  multiply<Left::rows>(w.endK, keyChannels, w.dState, channels, rows, channels, allOf(keyChannels), 1, w.z, channels);
  solveTransposed(shape, chunk, w.transitions, w.z);

  transposeBlock(u, kChunk, channels, w.turnedU);
  for (size_t row = 0; row < rows; row += kStep) {
    const size_t columns = roundUp(row + kStep, kChannelStep);
    for (const auto& [left, to] : {std::pair<const float*, float*>{w.dO, w.dP}, {w.z, w.dA}}) {
      multiply<Left::rows>(left + row * channels, channels, w.turnedU, kChunk, kStep, columns, allOf(channels), 0,
                           to + row * kChunk, kChunk);
    }
  }
  for (size_t i = 0; i < rows; ++i) w.dBeta[i] = dot(w.z + i * channels, m + i * channels, channels);
  differentiateSquares(chunk, w);

  scaleRows(w.z, own.beta, 1, rows, channels, w.z);
  copyBack(w.z, channels, chunk.count, shape.valueDim, f.dHeads + chunk.firstRow * shape.width() + shape.valueAt(head),
           shape.width());

  transposeBlock(state, keyChannels, channels, w.turnedState);
  transposeBlock(w.dState, keyChannels, channels, w.turnedGradient);
  const auto throughState = [&](const float* left, const float* turned, const float* scales, float sign, float* to) {
    multiply<Left::rows>(left, channels, turned, keyChannels, rows, keyChannels, allOf(channels), 0, to, keyChannels);
    multiplyElements(to, scales, sign, elements, to);
  };
  throughState(w.dO, w.turnedState, own.begin, 1, w.dQ);
  throughState(w.z, w.turnedState, own.begin, -1, w.later);
  throughState(u, w.turnedGradient, own.end, 1, w.earlier);
  for (size_t c = 0; c < keyChannels; ++c) {
    w.atEnd[c] = static_cast<double>(own.whole[c]) * dot(state + c * channels, w.dState + c * channels, channels);
  }
  for (size_t i = 0; i < rows; ++i) {
    for (size_t c = 0; c < keyChannels; ++c) {
      const size_t at = i * keyChannels + c;
      w.atEnd[c] += static_cast<double>(own.k[at]) * w.earlier[at];
    }
  }
  throughSquares(rows, keyChannels, w);
  for (size_t at = 0; at < elements; ++at) {
    const double later = w.later[at], earlier = w.earlier[at];
    w.dSums[at] = static_cast<double>(own.q[at]) * w.dQ[at] + static_cast<double>(own.k[at]) * (later - earlier);
  }
  for (size_t i = 0; i < rows; ++i) {
    float *dQ = w.dQ + i * keyChannels, *dK = w.later + i * keyChannels;
    const float *q = own.q + i * keyChannels, *k = own.k + i * keyChannels, *earlier = w.earlier + i * keyChannels;
    for (size_t c = 0; c < keyChannels; c += kWidth) {
      store(dQ + c, fused(load(k + c), w.diagonal[i], load(dQ + c)));
      store(dK + c, fused(load(q + c), w.diagonal[i], load(dK + c) + load(earlier + c)));
    }
  }
  finishGates(f, item, chunk, w);
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.keyDim)));
  normaliseBack(shape, own.q, own.inverseQ, scale, chunk, w.dQ, f.dHeads + head * shape.keyDim);
  normaliseBack(shape, own.k, own.inverseK, 1, chunk, w.later, f.dHeads + shape.keyAt(head));

  scaleRows(w.dState, own.whole, 1, keyChannels, channels, w.dState);
  multiply<Left::columns>(w.beginQ, keyChannels, w.dO, channels, keyChannels, channels, allOf(rows), 1, w.dState, channels);
  multiply<Left::columns>(w.beginK, keyChannels, w.z, channels, keyChannels, channels, allOf(rows), 1, w.dState, channels);
}

void computeItem(Backward& f, size_t index) {
  static thread_local Scratch scratch;
  const Shape& shape = f.shape;
  const Item item(shape, index);
  const size_t chunks = item.chunks(), size = shape.stateSize(), valueRows = kChunk * shape.valueChannels();
  Workspace w(shape, chunks, Pieces(scratch.floats(Workspace::size(shape, chunks))));
  computeStates(f, item, w);
  std::fill(w.dState, w.dState + size, 0.0f);
  for (size_t index = chunks; index-- > 0;) {
    differentiateChunk(f, item, Chunk(item, index), w.states + index * size, w.m + index * valueRows, w.u + index * valueRows, w);
  }
}

/// kimiDeltaRuleBackward(heads, beta, decay, aLog, dtBias, dy, dHeads, dBeta, dDecay, dALog[H], dDtBias[H·Dk], accumulateALog,
///                       accumulateDtBias, starts[documents + 1], documents, H, Dk, Dv)
/// dHeads may be heads, dBeta beta, and dDecay decay.
double kimiDeltaRuleBackward(const Arguments& args) {
  Backward f{};
  f.shape = channelShapeOf(args, 13);
  const Shape& shape = f.shape;
  const size_t tokens = shape.documents.tokens(), heads = shape.keyHeads, channels = heads * shape.keyDim;
  f.in = inputsOf(args, shape);
  f.dy = args.floats(5, tokens * shape.outputWidth());
  f.dHeads = args.floats(6, tokens * shape.width());
  f.dBeta = args.floats(7, tokens * heads);
  f.dDecay = args.floats(8, tokens * channels);
  float *dALog = args.floats(9, heads), *dDtBias = args.floats(10, channels);
  const bool addsALog = args.boolean(11), addsDtBias = args.boolean(12);
  const size_t padded = heads * shape.keyChannels();
  f.dtBias.resize(shape.documents.count() * padded);
  f.aLog.resize(shape.documents.count() * padded);
  parallelItems(shape.items(), [&](size_t item) { computeItem(f, item); });
  for (size_t head = 0; head < heads; ++head) {
    double aLog = 0;
    for (size_t c = 0; c < shape.keyDim; ++c) {
      double dtBias = 0;
      for (size_t document = 0; document < shape.documents.count(); ++document) {
        const size_t at = document * padded + head * shape.keyChannels() + c;
        dtBias += f.dtBias[at];
        aLog += f.aLog[at];
      }
      float& to = dDtBias[head * shape.keyDim + c];
      to = (addsDtBias ? to : 0.0f) + static_cast<float>(dtBias);
    }
    dALog[head] = (addsALog ? dALog[head] : 0.0f) + static_cast<float>(aLog);
  }
  return 0;
}

SLUICE_EXPORT(kimiDeltaRuleBackward, kimiDeltaRuleBackward);

}  // namespace

}  // namespace sluice::delta
