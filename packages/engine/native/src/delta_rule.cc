// The gated delta rule, forward: chunk by chunk, so that almost all of the work are products of small matrices, and the state is
// read and written once for each chunk. delta_rule.h has the equations.

#include "delta_rule.h"

#include "addon.h"
#include "parallel.h"

namespace sluice::delta {

Shape shapeOf(const Arguments& args, size_t first) {
  const Shape shape{Documents(args, first), args.size(first + 2), args.size(first + 3), args.size(first + 4),
                    args.size(first + 5),   args.boolean(first + 6) ? 2.0f : 1.0f};
  if (shape.keyHeads == 0 || shape.valueHeads % shape.keyHeads != 0) {
    throw std::runtime_error("value heads must be a multiple of key heads");
  }
  return shape;
}

void normalise(const Shape& shape, const float* from, const Chunk& chunk, float scale, float* rows, float* inverse) {
  const size_t channels = shape.keyChannels();
  copyRows(from + chunk.firstRow * shape.width(), shape.width(), chunk.count, shape.keyDim, rows, kChunk, channels);
  std::fill(inverse, inverse + kChunk, 0.0f);
  for (size_t row = 0; row < chunk.count; ++row) {
    float* x = rows + row * channels;
    inverse[row] = 1.0f / std::sqrt(dot(x, x, channels) + kEpsilon);
    for (size_t c = 0; c < channels; c += kWidth) store(x + c, load(x + c) * (inverse[row] * scale));
  }
}

void Keys::prepare(const Shape& shape, const Inputs& in, const Item& item, const Chunk& chunk, bool withQueries) {
  const size_t channels = shape.keyChannels(), rows = chunk.rows();
  normalise(shape, in.heads + shape.keyAt(item.keyHead), chunk, 1.0f, k, inverseK);
  transposeBlock(k, kChunk, channels, turned);
  // Of a step's rows, all columns of its tiles: what lies above the diagonal is never read.
  const auto below = [&](const float* a, float* square) {
    for (size_t row = 0; row < rows; row += kStep) {
      multiply<Left::rows>(a + row * channels, channels, turned, kChunk, kStep, roundUp(row + kStep, kChannelStep),
                           allOf(channels), 0, square + row * kChunk, kChunk);
    }
  };
  below(k, kk);
  if (!withQueries) return;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.keyDim)));
  normalise(shape, in.heads + item.keyHead * shape.keyDim, chunk, scale, q, inverseQ);
  below(q, qk);
}

float decayRate(float aLog) { return aLog < INFINITY ? exponential(broadcast(aLog))[0] : aLog; }

void Gates::prepare(const Shape& shape, const Inputs& in, const Chunk& chunk, size_t valueHead) {
  constexpr double log2e = 1.4426950408889634;
  float fromBegin[kChunk], toEnd[kChunk], small[kChunk];
  for (size_t i = 0; i < kChunk; ++i) {
    const float* row = in.logits + (chunk.firstRow + i) * 2 * shape.valueHeads + valueHead;
    logitB[i] = i < chunk.count ? row[0] : 0.0f;
    logitA[i] = i < chunk.count ? row[shape.valueHeads] + in.dtBias[valueHead] : 0.0f;
  }
  for (size_t i = 0; i < kChunk; i += kWidth) {
    const Vec x = load(logitA + i);
    store(small + i, exponential(x > 0.0f ? -x : x));
  }
  // g = −e^aLog · softplus, and softplus x = max(x, 0) + log(1 + e^−|x|).
  const double rate = decayRate(in.aLog[valueHead]);
  double sum = 0;
  for (size_t i = 0; i < kChunk; ++i) {
    const double x = logitA[i], softplus = (x > 0 ? x : 0.0) + logarithm(1.0 + static_cast<double>(small[i]));
    g[i] = i < chunk.count ? -rate * softplus : 0.0;
    sum += g[i] * log2e;
    sums[i] = sum;
  }
  for (size_t i = 0; i < kChunk; ++i) {
    fromBegin[i] = static_cast<float>(sums[i]);
    toEnd[i] = static_cast<float>(sum - sums[i]);
  }
  for (size_t i = 0; i < kChunk; i += kWidth) {
    store(beta + i, shape.most * sigmoid(load(logitB + i)));
    store(begin + i, exponential2(load(fromBegin + i)));
    store(end + i, exponential2(load(toEnd + i)));
  }
  std::fill(beta + chunk.count, beta + kChunk, 0.0f);
  whole = exponential2(broadcast(static_cast<float>(sum)))[0];
  for (size_t i = 0; i < chunk.rows(); ++i) {
    const size_t columns = roundUp(i + 1, kChannelStep);
    float difference[kChunk];
    for (size_t j = 0; j < columns; ++j) difference[j] = static_cast<float>(sums[i] - sums[j]);
    for (size_t j = 0; j < columns; j += kWidth) store(decays + i * kChunk + j, exponential2(load(difference + j)));
    std::fill(decays + i * kChunk + i + 1, decays + i * kChunk + columns, 0.0f);
  }
}

void fillTransitions(const Chunk& chunk, const Keys& keys, const Gates& gates, float* square) {
  for (size_t i = 0; i < chunk.rows(); ++i) {
    const size_t columns = roundUp(i + 1, kChannelStep);
    const float scale = -gates.beta[i];
    for (size_t j = 0; j < columns; j += kWidth) {
      const size_t at = i * kChunk + j;
      store(square + at, load(keys.kk + at) * (load(gates.decays + at) * scale));
    }
    std::fill(square + i * kChunk + i, square + i * kChunk + columns, 0.0f);
  }
}

void solve(const Shape& shape, const float* heads, const Chunk& chunk, size_t valueHead, const float* beta,
           const float* transitions, const float* negativeK, const float* state, float* m, float* u) {
  const size_t channels = shape.valueChannels(), keyChannels = shape.keyChannels(), rows = chunk.rows();
  copyRows(heads + chunk.firstRow * shape.width() + shape.valueAt(valueHead), shape.width(), chunk.count, shape.valueDim, m,
           kChunk, channels);
  multiply<Left::rows>(negativeK, keyChannels, state, channels, rows, channels, allOf(keyChannels), 1, m, channels);
  scaleRows(m, beta, 1, rows, channels, u);
  std::fill(u + rows * channels, u + kChunk * channels, 0.0f);
  for (size_t row = 0; row < rows; row += kStep) {
    float* own = u + row * channels;
    multiply<Left::rows>(transitions + row * kChunk, kChunk, u, channels, kStep, channels, allOf(row), 1, own, channels);
    for (size_t c = 0; c < channels; c += kWidth) {
      for (size_t i = 1; i < kStep; ++i) {
        Vec sum = load(own + i * channels + c);
        for (size_t j = 0; j < i; ++j) {
          sum = fused(load(own + j * channels + c), transitions[(row + i) * kChunk + row + j], sum);
        }
        store(own + i * channels + c, sum);
      }
    }
  }
}

void advance(const Shape& shape, const Chunk& chunk, const Gates& gates, const float* keys, const float* u, float* state) {
  const size_t channels = shape.valueChannels(), keyChannels = shape.keyChannels();
  multiply<Left::columns>(keys, keyChannels, u, channels, keyChannels, channels, allOf(chunk.rows()), gates.whole, state,
                          channels);
}

namespace {

struct Forward {
  Shape shape;
  Inputs in;
  float* y;      // [N][value heads · Dv]
  float* state;  // [value heads][Dk][Dv], or null
};

/// One head's state from where it is kept, or zeros; and back.
void readState(const Forward& f, size_t valueHead, float* state) {
  const Shape& shape = f.shape;
  if (f.state == nullptr) return std::fill(state, state + shape.stateSize(), 0.0f);
  copyRows(f.state + valueHead * shape.keyDim * shape.valueDim, shape.valueDim, shape.keyDim, shape.valueDim, state,
           shape.keyChannels(), shape.valueChannels());
}
void keepState(const Forward& f, size_t valueHead, const float* state) {
  const Shape& shape = f.shape;
  if (f.state == nullptr) return;
  copyBack(state, shape.valueChannels(), shape.keyDim, shape.valueDim,
           f.state + valueHead * shape.keyDim * shape.valueDim, shape.valueDim);
}

void computeItem(const Forward& f, const Item& item) {
  static thread_local Scratch scratch;
  const Shape& shape = f.shape;
  const size_t keyChannels = shape.keyChannels(), channels = shape.valueChannels();
  const size_t keyRows = kChunk * keyChannels, valueRows = kChunk * channels, square = kChunk * kChunk;
  Pieces memory(scratch.floats(Keys::size(shape) + Gates::size() + 2 * square + 2 * keyRows + 3 * valueRows +
                               shape.group() * shape.stateSize()));
  Keys keys(shape, memory);
  Gates gates(memory);
  float *transitions = memory.take(square), *weights = memory.take(square);
  float *scaled = memory.take(keyRows), *scaledQ = memory.take(keyRows);
  float *m = memory.take(valueRows), *u = memory.take(valueRows), *o = memory.take(valueRows);
  float* states = memory.take(shape.group() * shape.stateSize());

  for (size_t j = 0; j < shape.group(); ++j) readState(f, item.firstValueHead + j, states + j * shape.stateSize());
  for (size_t index = 0; index < item.chunks(); ++index) {
    const Chunk chunk(item, index);
    const size_t rows = chunk.rows();
    keys.prepare(shape, f.in, item, chunk, true);
    for (size_t j = 0; j < shape.group(); ++j) {
      const size_t head = item.firstValueHead + j;
      float* state = states + j * shape.stateSize();
      gates.prepare(shape, f.in, chunk, head);
      fillTransitions(chunk, keys, gates, transitions);
      scaleRows(keys.k, gates.begin, -1, rows, keyChannels, scaled);
      solve(shape, f.in.heads, chunk, head, gates.beta, transitions, scaled, state, m, u);
      for (size_t i = 0; i < rows; ++i) {
        for (size_t c = i * kChunk; c < i * kChunk + roundUp(i + 1, kChannelStep); c += kWidth) {
          store(weights + c, load(gates.decays + c) * load(keys.qk + c));
        }
      }
      scaleRows(keys.q, gates.begin, 1, rows, keyChannels, scaledQ);
      multiply<Left::rows>(scaledQ, keyChannels, state, channels, rows, channels, allOf(keyChannels), 0, o, channels);
      multiply<Left::rows>(weights, kChunk, u, channels, rows, channels, upToDiagonal, 1, o, channels);
      copyBack(o, channels, chunk.count, shape.valueDim,
               f.y + chunk.firstRow * shape.outputWidth() + head * shape.valueDim, shape.outputWidth());
      scaleRows(keys.k, gates.end, 1, rows, keyChannels, scaled);
      advance(shape, chunk, gates, scaled, u, state);
    }
  }
  for (size_t j = 0; j < shape.group(); ++j) keepState(f, item.firstValueHead + j, states + j * shape.stateSize());
}

/// gatedDeltaRule(heads[N·W], logits[N·2·V], aLog[V], dtBias[V], y[N·V·Dv], state[V·Dk·Dv] | null, starts[documents + 1],
///                documents, K, V, Dk, Dv, whether β goes up to 2). A state is read, and that after the last token written.
double gatedDeltaRule(const Arguments& args) {
  Forward f{};
  f.shape = shapeOf(args, 6);
  const Shape& shape = f.shape;
  const size_t tokens = shape.documents.tokens();
  f.in = {args.floats(0, tokens * shape.width()), args.floats(1, tokens * 2 * shape.valueHeads),
          args.floats(2, shape.valueHeads), args.floats(3, shape.valueHeads)};
  f.y = args.floats(4, tokens * shape.outputWidth());
  f.state = args.optionalFloats(5, shape.valueHeads * shape.keyDim * shape.valueDim);
  if (f.state != nullptr && shape.documents.count() != 1) throw std::runtime_error("a state belongs to one document");
  parallelItems(shape.items(), [&](size_t item) { computeItem(f, Item(shape, item)); });
  return 0;
}

SLUICE_EXPORT(gatedDeltaRule, gatedDeltaRule);

}  // namespace

}  // namespace sluice::delta
