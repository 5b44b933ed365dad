// The gated delta rule, backward. A document's states are computed once more from its beginning on, which costs less than to
// keep them from the forward pass; then chunks are taken from the last to the first, with dS, the gradient of the state after the
// chunk:
//
//   dU = Pᵀ·dO + F·K·dS      (I + L)ᵀ·Z = dU      dP = dO·Uᵀ, dL = −Z·Uᵀ, up to and below the diagonal
//   dV = β·Z      dβ = Σ Z ⊙ M + Σ_j dL ⊙ L/β
//   dQ = E·dO·S₀ᵀ + (dP ⊙ Γ)·K
//   dK = (dP ⊙ Γ)ᵀ·Q + X·K + Xᵀ·K − E·β·Z·S₀ᵀ + F·U·dSᵀ      with X = β·dL ⊙ Γ
//   dc_i = Σ_j Y_ij − Σ_j Y_ji + E·q·(S₀·dO) − E·k·(S₀·β·Z) − y_i, dc_C += Σ y_i + e^(c_C)·⟨S₀, dS⟩
//          with Y = dP ⊙ P + dL ⊙ L below the diagonal, y_i = F·k·(dS·u)
//   dS₀ = (E·Q)ᵀ·dO − (E·K)ᵀ·β·Z + e^(c_C)·dS
//
// and dg is the sum of dc from the token to the chunk's end.

#include <vector>

#include "addon.h"
#include "delta_rule.h"
#include "parallel.h"

namespace sluice::delta {

void solveTransposed(const Shape& shape, const Chunk& chunk, const float* transitions, float* z) {
  const size_t channels = shape.valueChannels(), rows = chunk.rows();
  for (size_t row = rows; row > 0; row -= kStep) {
    const size_t first = row - kStep;
    float* own = z + first * channels;
    multiply<Left::columns>(transitions + row * kChunk + first, kChunk, z + row * channels, channels, kStep, channels,
                            allOf(rows - row), 1, own, channels);
    for (size_t c = 0; c < channels; c += kWidth) {
      for (size_t i = kStep - 1; i-- > 0;) {
        Vec sum = load(own + i * channels + c);
        for (size_t j = i + 1; j < kStep; ++j) {
          sum = fused(load(own + j * channels + c), transitions[(first + j) * kChunk + first + i], sum);
        }
        store(own + i * channels + c, sum);
      }
    }
  }
}

void normaliseBack(const Shape& shape, const float* n, const float* inverse, float scale, const Chunk& chunk, float* d,
                   float* to) {
  const size_t channels = shape.keyChannels();
  for (size_t row = 0; row < chunk.count; ++row) {
    const float* unit = n + row * channels;
    float* gradient = d + row * channels;
    const float pull = dot(unit, gradient, channels) / (scale * scale), factor = inverse[row] * scale;
    for (size_t c = 0; c < channels; c += kWidth) {
      store(gradient + c, factor * fused(load(unit + c), -pull, load(gradient + c)));
    }
  }
  copyBack(d, channels, chunk.count, shape.keyDim, to + chunk.firstRow * shape.width(), shape.width());
}

namespace {

/// Gradients of aLog and dtBias of one value head from one document.
struct HeadGradients {
  double aLog = 0, dtBias = 0;
};

struct Backward {
  Shape shape;
  Inputs in;
  const float* dy;
  float *dHeads, *dLogits;
  std::vector<HeadGradients> ofItems;  // [documents][value heads]
};

/// Memory for one item; what is kept of every chunk follows for each value head of the group.
struct Workspace {
  Keys keys;
  Gates gates;
  float *transitions, *weights;        // [64][64]: −L and P
  float *dWeights, *dTransitions;      // [64][64]: dP ⊙ Γ below and on the diagonal, X
  float *beginQ, *beginK, *endK;       // [64][key channels]: E·Q, −E·K, F·K
  float *dQ, *dK;                      // [64][key channels]: sums over the group
  float *dOS, *zS, *uS;                // [64][key channels]: dO·S₀ᵀ, β·Z·S₀ᵀ, U·dSᵀ
  float *dO, *z, *turnedU;             // [64][value channels]; [value channels][64]
  float *turnedState, *turnedGradient; // [value channels][key channels]
  float *dStates;                      // [group][key channels][value channels]
  float *states, *m, *u;               // [group][chunks] of a state, of [64][value channels]

  static size_t size(const Shape& shape, size_t chunks) {
    const size_t keyRows = kChunk * shape.keyChannels(), valueRows = kChunk * shape.valueChannels();
    return Keys::size(shape) + Gates::size() + 4 * kChunk * kChunk + 8 * keyRows + 3 * valueRows + 2 * shape.stateSize() +
           shape.group() * (shape.stateSize() + chunks * (shape.stateSize() + 2 * valueRows));
  }

  Workspace(const Shape& shape, size_t chunks, Pieces memory) : keys(shape, memory), gates(memory) {
    const size_t square = kChunk * kChunk, keyRows = kChunk * shape.keyChannels();
    const size_t valueRows = kChunk * shape.valueChannels(), group = shape.group();
    for (float** to : {&transitions, &weights, &dWeights, &dTransitions}) *to = memory.take(square);
    for (float** to : {&beginQ, &beginK, &endK, &dQ, &dK, &dOS, &zS, &uS}) *to = memory.take(keyRows);
    for (float** to : {&dO, &z, &turnedU}) *to = memory.take(valueRows);
    for (float** to : {&turnedState, &turnedGradient}) *to = memory.take(shape.stateSize());
    dStates = memory.take(group * shape.stateSize());
    states = memory.take(group * chunks * shape.stateSize());
    m = memory.take(group * chunks * valueRows), u = memory.take(group * chunks * valueRows);
  }
};

/// The state before every chunk, and M and U of each, of all value heads of an item.
void computeStates(const Backward& f, const Item& item, Workspace& w) {
  const Shape& shape = f.shape;
  const size_t size = shape.stateSize(), valueRows = kChunk * shape.valueChannels(), keyChannels = shape.keyChannels();
  for (size_t index = 0; index < item.chunks(); ++index) {
    const Chunk chunk(item, index);
    const size_t rows = chunk.rows();
    w.keys.prepare(shape, f.in, item, chunk, false);
    for (size_t j = 0; j < shape.group(); ++j) {
      const size_t head = item.firstValueHead + j, at = j * item.chunks() + index;
      float* state = w.states + at * size;
      if (index == 0) std::fill(state, state + size, 0.0f);
      w.gates.prepare(shape, f.in, chunk, head);
      fillTransitions(chunk, w.keys, w.gates, w.transitions);
      scaleRows(w.keys.k, w.gates.begin, -1, rows, keyChannels, w.beginK);
      float *m = w.m + at * valueRows, *u = w.u + at * valueRows;
      solve(shape, f.in.heads, chunk, head, w.gates.beta, w.transitions, w.beginK, state, m, u);
      if (index + 1 == item.chunks()) continue;
      std::copy_n(state, size, state + size);
      scaleRows(w.keys.k, w.gates.end, 1, rows, keyChannels, w.endK);
      advance(shape, chunk, w.gates, w.endK, u, state + size);
    }
  }
}

/// Gradients of P and L, in their steps up to the diagonal, from dO·Uᵀ and Z·Uᵀ in `dWeights` and `dTransitions`. Overwrites
/// the decays. @param dBeta, dSums [64]: what they add to the gradients of β and of c
void differentiateSquares(const Chunk& chunk, Workspace& w, float* dBeta, double* dSums) {
  const size_t rows = chunk.rows();
  float ofRow[kChunk], ofColumns[kChunk] = {};  // Y_ij, and Σ_i Y_ij
  for (size_t i = 0; i < rows; ++i) {
    const size_t columns = roundUp(i + 1, kChannelStep);
    float *dP = w.dWeights + i * kChunk, *x = w.dTransitions + i * kChunk, *decays = w.gates.decays + i * kChunk;
    const float *kk = w.keys.kk + i * kChunk, *qk = w.keys.qk + i * kChunk;
    const float beta = w.gates.beta[i], onDiagonal = dP[i];
    decays[i] = 0;
    dBeta[i] += sumOfLanes(columns, [&](Vec sum, size_t j, size_t) {
      const Vec decay = load(decays + j), dWeight = load(dP + j) * decay, dL = -load(x + j) * decay, product = load(kk + j);
      store(dP + j, dWeight);
      store(x + j, dL * beta);
      const Vec y = fused(dWeight, load(qk + j), dL * beta * product);
      store(ofRow + j, y);
      store(ofColumns + j, load(ofColumns + j) + y);
      return fused(dL, product, sum);
    });
    dSums[i] += sumOfLanes(columns, [&](Vec sum, size_t j, size_t) { return sum + load(ofRow + j); });
    dP[i] = onDiagonal;
  }
  for (size_t i = 0; i < rows; ++i) dSums[i] -= ofColumns[i];
}

/// y += factor·x, row by row, with the opposite sign where asked. @param dots [rows]: of what is added with the rows of `with`
void addRows(const float* x, const float* factor, float sign, const float* with, size_t rows, size_t columns, float* y,
             double* dots) {
  for (size_t row = 0; row < rows; ++row) {
    const float scale = sign * factor[row];
    const float *from = x + row * columns, *other = with + row * columns;
    float* to = y + row * columns;
    const float product = sumOfLanes(columns, [&](Vec sum, size_t c, size_t) {
      const Vec value = load(from + c);
      store(to + c, fused(value, scale, load(to + c)));
      return fused(value, load(other + c), sum);
    });
    dots[row] = static_cast<double>(scale) * product;
  }
}

/// Gradients of the logits of β and of the decay from those of β and c.
void finishGates(const Backward& f, const Chunk& chunk, const Gates& gates, size_t head, const float* dBeta,
                 const double* dSums, HeadGradients& sums) {
  const Shape& shape = f.shape;
  const double rate = decayRate(f.in.aLog[head]);
  float open[kChunk], slopes[kChunk];
  for (size_t i = 0; i < kChunk; i += kWidth) {
    store(open + i, sigmoid(load(gates.logitB + i)));
    store(slopes + i, sigmoid(load(gates.logitA + i)));
  }
  double later = 0;
  for (size_t i = chunk.count; i-- > 0;) {
    later += dSums[i];
    const size_t at = (chunk.firstRow + i) * 2 * shape.valueHeads + head;
    const double dA = -later * rate * static_cast<double>(slopes[i]);
    f.dLogits[at] = dBeta[i] * (shape.most * (open[i] * (1.0f - open[i])));
    f.dLogits[at + shape.valueHeads] = static_cast<float>(dA);
    sums.aLog += later * gates.g[i];
    sums.dtBias += dA;
  }
}

/// The way of one value head through one chunk. @param dState of the state after the chunk; gets that before it
void differentiateChunk(const Backward& f, const Chunk& chunk, size_t head, const float* state, const float* m,
                        const float* u, float* dState, Workspace& w, HeadGradients& sums) {
  const Shape& shape = f.shape;
  const size_t rows = chunk.rows(), channels = shape.valueChannels(), keyChannels = shape.keyChannels();
  const Gates& gates = w.gates;
  w.gates.prepare(shape, f.in, chunk, head);
  fillTransitions(chunk, w.keys, gates, w.transitions);
  for (size_t i = 0; i < rows; ++i) {
    for (size_t at = i * kChunk; at < i * kChunk + roundUp(i + 1, kChannelStep); at += kWidth) {
      store(w.weights + at, load(gates.decays + at) * load(w.keys.qk + at));
    }
  }
  scaleRows(w.keys.q, gates.begin, 1, rows, keyChannels, w.beginQ);
  scaleRows(w.keys.k, gates.begin, -1, rows, keyChannels, w.beginK);
  scaleRows(w.keys.k, gates.end, 1, rows, keyChannels, w.endK);
  copyRows(f.dy + chunk.firstRow * shape.outputWidth() + head * shape.valueDim, shape.outputWidth(), chunk.count,
           shape.valueDim, w.dO, kChunk, channels);

  multiply<Left::columns>(w.weights, kChunk, w.dO, channels, rows, channels, fromDiagonal(rows), 0, w.z, channels);
  multiply<Left::rows>(w.endK, keyChannels, dState, channels, rows, channels, allOf(keyChannels), 1, w.z, channels);
  solveTransposed(shape, chunk, w.transitions, w.z);

  // Squares: dO·Uᵀ and Z·Uᵀ in the steps up to the diagonal.
  transposeBlock(u, kChunk, channels, w.turnedU);
  for (size_t row = 0; row < rows; row += kStep) {
    const size_t columns = roundUp(row + kStep, kChannelStep);
    multiply<Left::rows>(w.dO + row * channels, channels, w.turnedU, kChunk, kStep, columns, allOf(channels), 0,
                         w.dWeights + row * kChunk, kChunk);
    multiply<Left::rows>(w.z + row * channels, channels, w.turnedU, kChunk, kStep, columns, allOf(channels), 0,
                         w.dTransitions + row * kChunk, kChunk);
  }
  float dBeta[kChunk];
  double dSums[kChunk] = {}, ofQ[kChunk], ofK[kChunk], ofEnd[kChunk];
  for (size_t i = 0; i < rows; ++i) dBeta[i] = dot(w.z + i * channels, m + i * channels, channels);
  differentiateSquares(chunk, w, dBeta, dSums);

  scaleRows(w.z, gates.beta, 1, rows, channels, w.z);
  copyBack(w.z, channels, chunk.count, shape.valueDim,
           f.dHeads + chunk.firstRow * shape.width() + shape.valueAt(head), shape.width());

  transposeBlock(state, keyChannels, channels, w.turnedState);
  transposeBlock(dState, keyChannels, channels, w.turnedGradient);
  const auto throughState = [&](const float* left, const float* turned, float* to) {
    multiply<Left::rows>(left, channels, turned, keyChannels, rows, keyChannels, allOf(channels), 0, to, keyChannels);
  };
  throughState(w.dO, w.turnedState, w.dOS);
  throughState(w.z, w.turnedState, w.zS);
  throughState(u, w.turnedGradient, w.uS);
  const auto upTo = [&](const float* square, float* to) {
    multiply<Left::rows>(square, kChunk, w.keys.k, keyChannels, rows, keyChannels, upToDiagonal, 1, to, keyChannels);
  };
  const auto from = [&](const float* square, const float* right) {
    multiply<Left::columns>(square, kChunk, right, keyChannels, rows, keyChannels, fromDiagonal(rows), 1, w.dK, keyChannels);
  };
  upTo(w.dWeights, w.dQ);
  from(w.dWeights, w.keys.q);
  upTo(w.dTransitions, w.dK);
  from(w.dTransitions, w.keys.k);
  addRows(w.dOS, gates.begin, 1, w.keys.q, rows, keyChannels, w.dQ, ofQ);
  addRows(w.zS, gates.begin, -1, w.keys.k, rows, keyChannels, w.dK, ofK);
  addRows(w.uS, gates.end, 1, w.keys.k, rows, keyChannels, w.dK, ofEnd);

  const double carried = dot(state, dState, shape.stateSize());
  double atEnd = static_cast<double>(gates.whole) * carried;
  for (size_t i = 0; i < chunk.count; ++i) {
    dSums[i] += ofQ[i] + ofK[i] - ofEnd[i];
    atEnd += ofEnd[i];
  }
  dSums[chunk.count - 1] += atEnd;
  finishGates(f, chunk, gates, head, dBeta, dSums, sums);

  multiply<Left::columns>(w.beginQ, keyChannels, w.dO, channels, keyChannels, channels, allOf(rows), gates.whole, dState,
                          channels);
  multiply<Left::columns>(w.beginK, keyChannels, w.z, channels, keyChannels, channels, allOf(rows), 1, dState, channels);
}

void computeItem(Backward& f, size_t index) {
  static thread_local Scratch scratch;
  const Shape& shape = f.shape;
  const Item item(shape, index);
  const size_t chunks = item.chunks(), size = shape.stateSize(), valueRows = kChunk * shape.valueChannels();
  const size_t keyRows = kChunk * shape.keyChannels();
  Workspace w(shape, chunks, Pieces(scratch.floats(Workspace::size(shape, chunks))));
  computeStates(f, item, w);
  std::fill(w.dStates, w.dStates + shape.group() * size, 0.0f);
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.keyDim)));
  for (size_t index = chunks; index-- > 0;) {
    const Chunk chunk(item, index);
    w.keys.prepare(shape, f.in, item, chunk, true);
    std::fill(w.dQ, w.dQ + keyRows, 0.0f);
    std::fill(w.dK, w.dK + keyRows, 0.0f);
    for (size_t j = 0; j < shape.group(); ++j) {
      const size_t head = item.firstValueHead + j, at = j * chunks + index;
      differentiateChunk(f, chunk, head, w.states + at * size, w.m + at * valueRows, w.u + at * valueRows,
                         w.dStates + j * size, w, f.ofItems[item.document * shape.valueHeads + head]);
    }
    normaliseBack(shape, w.keys.q, w.keys.inverseQ, scale, chunk, w.dQ, f.dHeads + item.keyHead * shape.keyDim);
    normaliseBack(shape, w.keys.k, w.keys.inverseK, 1, chunk, w.dK, f.dHeads + shape.keyAt(item.keyHead));
  }
}

/// gatedDeltaRuleBackward(heads, logits, aLog, dtBias, dy, dHeads, dLogits, dALog[V], dDtBias[V], accumulateALog,
///                        accumulateDtBias, starts[documents + 1], documents, K, V, Dk, Dv, whether β goes up to 2)
/// dHeads may be heads, dLogits may be logits.
double gatedDeltaRuleBackward(const Arguments& args) {
  Backward f{};
  f.shape = shapeOf(args, 11);
  const Shape& shape = f.shape;
  const size_t tokens = shape.documents.tokens(), valueHeads = shape.valueHeads;
  f.in = {args.floats(0, tokens * shape.width()), args.floats(1, tokens * 2 * valueHeads), args.floats(2, valueHeads),
          args.floats(3, valueHeads)};
  f.dy = args.floats(4, tokens * shape.outputWidth());
  f.dHeads = args.floats(5, tokens * shape.width());
  f.dLogits = args.floats(6, tokens * 2 * valueHeads);
  float *dALog = args.floats(7, valueHeads), *dDtBias = args.floats(8, valueHeads);
  const bool addsALog = args.boolean(9), addsDtBias = args.boolean(10);
  f.ofItems.resize(shape.documents.count() * valueHeads);
  parallelItems(shape.items(), [&](size_t item) { computeItem(f, item); });
  for (size_t head = 0; head < valueHeads; ++head) {
    HeadGradients sum;
    for (size_t document = 0; document < shape.documents.count(); ++document) {
      sum.aLog += f.ofItems[document * valueHeads + head].aLog;
      sum.dtBias += f.ofItems[document * valueHeads + head].dtBias;
    }
    dALog[head] = (addsALog ? dALog[head] : 0.0f) + static_cast<float>(sum.aLog);
    dDtBias[head] = (addsDtBias ? dDtBias[head] : 0.0f) + static_cast<float>(sum.dtBias);
  }
  return 0;
}

SLUICE_EXPORT(gatedDeltaRuleBackward, gatedDeltaRuleBackward);

}  // namespace

}  // namespace sluice::delta
