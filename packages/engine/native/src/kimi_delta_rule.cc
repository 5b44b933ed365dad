// Kimi Delta Attention, forward. kimi_delta_rule.h has the equations.

#include "kimi_delta_rule.h"

#include "addon.h"
#include "parallel.h"

namespace sluice::delta {

Shape channelShapeOf(const Arguments& args, size_t first) {
  const size_t heads = args.size(first + 2);
  if (heads == 0) throw std::runtime_error("there must be a head");
  return {Documents(args, first), heads, heads, args.size(first + 3), args.size(first + 4), 1.0f};
}

/// log(1 + t) for t from 0 to 1, with a relative error below 2e-7: with z = t / (2 + t), 2·(z + z³/3 + z⁵/5 + …).
static Vec logarithmAbove1(Vec t) {
  const Vec z = t / (2.0f + t), square = z * z;
  Vec series = broadcast(1.0f / 15);
  for (int n = 13; n >= 3; n -= 2) series = fused(series, square, 1.0f / static_cast<float>(n));
  return 2.0f * fused(z * square, series, z);
}

/// β, and the decays from the chunk's beginning and to its end.
static void prepareGates(const Shape& shape, const ChannelInputs& in, const Item& item, const Chunk& chunk, ChannelChunk& own) {
  constexpr double log2e = 1.4426950408889634;
  const size_t channels = shape.keyChannels(), rows = chunk.rows(), head = item.keyHead, width = shape.keyHeads * shape.keyDim;
  for (size_t i = 0; i < kChunk; ++i) own.logitB[i] = i < chunk.count ? in.beta[(chunk.firstRow + i) * shape.keyHeads + head] : 0.0f;
  for (size_t i = 0; i < kChunk; i += kWidth) store(own.beta + i, sigmoid(load(own.logitB + i)));
  std::fill(own.beta + chunk.count, own.beta + kChunk, 0.0f);

  copyRows(in.decay + chunk.firstRow * width + head * shape.keyDim, width, chunk.count, shape.keyDim, own.logits, rows, channels);
  const float* bias = in.dtBias + head * shape.keyDim;
  const float rate = decayRate(in.aLog[head]);
  for (size_t i = 0; i < rows; ++i) {
    float *x = own.logits + i * channels, *g = own.g + i * channels;
    double* sum = own.sums + i * channels;
    // g = −e^aLog · softplus, and softplus x = max(x, 0) + log(1 + e^−|x|).
    for (size_t c = 0; c < channels; c += kWidth) {
      const size_t lanes = std::min(kWidth, shape.keyDim - std::min(shape.keyDim, c));
      const Vec logit = load(x + c) + loadUpTo(bias + c, lanes);
      const Vec softplus = (logit > 0.0f ? logit : Vec{}) + logarithmAbove1(exponential(logit > 0.0f ? -logit : logit));
      store(x + c, logit);
      store(g + c, -rate * softplus);
    }
    // Neither tokens nor channels that are none decay.
    std::fill(g + (i < chunk.count ? shape.keyDim : 0), g + channels, 0.0f);
    for (size_t c = 0; c < channels; ++c) sum[c] = (i > 0 ? sum[c - channels] : 0.0) + static_cast<double>(g[c]) * log2e;
  }
  const double* last = own.sums + (rows - 1) * channels;
  for (size_t i = 0; i < rows; ++i) {
    float* begin = own.begin + i * channels;
    for (size_t c = 0; c < channels; ++c) begin[c] = static_cast<float>(own.sums[i * channels + c]);
    for (size_t c = 0; c < channels; c += kWidth) store(begin + c, exponential2(load(begin + c)));
    decayBetween(last, own.sums + i * channels, channels, own.end + i * channels);
  }
  std::copy_n(own.begin + (rows - 1) * channels, channels, own.whole);
}

void ChannelChunk::prepareLevel(size_t half, size_t rows, size_t channels, bool withQueries) {
  eachPair(half, rows, [&](size_t first, size_t upper) {
    const double* between = sums + (first + half - 1) * channels;
    for (size_t i = first; i < first + half; ++i) decayBetween(between, sums + i * channels, channels, scales + i * channels);
    for (size_t i = first + half; i < first + half + upper; ++i) {
      decayBetween(sums + i * channels, between, channels, scales + i * channels);
    }
    const size_t at = first * channels, later = (first + half) * channels;
    multiplyElements(k + at, scales + at, 1, (half + upper) * channels, levelK + at);
    if (withQueries) multiplyElements(q + later, scales + later, 1, upper * channels, levelQ + later);
  });
}

void ChannelChunk::prepare(const Shape& shape, const ChannelInputs& in, const Item& item, const Chunk& chunk, bool withQueries) {
  const size_t channels = shape.keyChannels(), rows = chunk.rows();
  normalise(shape, in.heads + shape.keyAt(item.keyHead), chunk, 1.0f, k, inverseK);
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(shape.keyDim)));
  if (withQueries) normalise(shape, in.heads + item.keyHead * shape.keyDim, chunk, scale, q, inverseQ);
  prepareGates(shape, in, item, chunk, *this);

  for (size_t half = kChunk / 2; half >= kStep; half /= 2) {
    if (half >= rows) continue;
    prepareLevel(half, rows, channels, withQueries);
    transposeBlock(levelK, kChunk, channels, turned);
    // Whole vectors of columns: those beyond the earlier block are of blocks on the diagonal, which come last.
    eachPair(half, rows, [&](size_t first, size_t upper) {
      const size_t row = first + half, columns = roundUp(half, kChannelStep);
      multiply<Left::rows>(levelK + row * channels, channels, turned + first, kChunk, upper, columns, allOf(channels), 0,
                           a + row * kChunk + first, kChunk);
      if (!withQueries) return;
      multiply<Left::rows>(levelQ + row * channels, channels, turned + first, kChunk, upper, columns, allOf(channels), 0,
                           p + row * kChunk + first, kChunk);
    });
  }
  for (size_t i = 0; i < rows; ++i) {
    const size_t first = i / kStep * kStep;
    float *ofA = a + i * kChunk, *ofP = p + i * kChunk;
    const float *ownK = k + i * channels, *ownQ = q + i * channels;
    for (size_t j = first; j < i; ++j) {
      decayBetween(sums + i * channels, sums + j * channels, channels, decay);
      multiplyElements(k + j * channels, decay, 1, channels, decayed);
      ofA[j] = dot(ownK, decayed, channels);
      if (withQueries) ofP[j] = dot(ownQ, decayed, channels);
    }
    // To the end of the vector, which may lie beyond the step.
    const size_t columns = roundUp(i + 1, kChannelStep);
    std::fill(ofA + i, ofA + columns, 0.0f);
    if (!withQueries) continue;
    std::fill(ofP + i, ofP + columns, 0.0f);
    ofP[i] = dot(ownQ, ownK, channels);
  }
}

void fillTransitions(const Chunk& chunk, const ChannelChunk& own, float* square) {
  for (size_t i = 0; i < chunk.rows(); ++i) {
    const size_t at = i * kChunk, columns = roundUp(i + 1, kChannelStep);
    const float scale = -own.beta[i];
    for (size_t j = 0; j < columns; j += kWidth) store(square + at + j, load(own.a + at + j) * scale);
  }
}

void advance(const Shape& shape, const Chunk& chunk, const float* whole, const float* keys, const float* u, float* state) {
  const size_t channels = shape.valueChannels(), keyChannels = shape.keyChannels();
  scaleRows(state, whole, 1, keyChannels, channels, state);
  multiply<Left::columns>(keys, keyChannels, u, channels, keyChannels, channels, allOf(chunk.rows()), 1, state, channels);
}

namespace {

struct Forward {
  Shape shape;
  ChannelInputs in;
  float* y;      // [N][heads · Dv]
  float* state;  // [heads][Dk][Dv], or null
};

void computeItem(const Forward& f, const Item& item) {
  static thread_local Scratch scratch;
  const Shape& shape = f.shape;
  const size_t keyChannels = shape.keyChannels(), channels = shape.valueChannels(), head = item.keyHead;
  const size_t keyRows = kChunk * keyChannels, valueRows = kChunk * channels, square = kChunk * kChunk;
  Pieces memory(scratch.floats(ChannelChunk::size(shape) + square + keyRows + 3 * valueRows + shape.stateSize()));
  ChannelChunk own(shape, memory);
  float *transitions = memory.take(square), *scaled = memory.take(keyRows);
  float *m = memory.take(valueRows), *u = memory.take(valueRows), *o = memory.take(valueRows);
  float* state = memory.take(shape.stateSize());
  float* kept = f.state == nullptr ? nullptr : f.state + head * shape.keyDim * shape.valueDim;

  if (kept == nullptr) std::fill(state, state + shape.stateSize(), 0.0f);
  else copyRows(kept, shape.valueDim, shape.keyDim, shape.valueDim, state, keyChannels, channels);
  for (size_t index = 0; index < item.chunks(); ++index) {
    const Chunk chunk(item, index);
    const size_t rows = chunk.rows();
    own.prepare(shape, f.in, item, chunk, true);
    fillTransitions(chunk, own, transitions);
    multiplyElements(own.k, own.begin, -1, rows * keyChannels, scaled);
    solve(shape, f.in.heads, chunk, head, own.beta, transitions, scaled, state, m, u);
    multiplyElements(own.q, own.begin, 1, rows * keyChannels, scaled);
    multiply<Left::rows>(scaled, keyChannels, state, channels, rows, channels, allOf(keyChannels), 0, o, channels);
    multiply<Left::rows>(own.p, kChunk, u, channels, rows, channels, upToDiagonal, 1, o, channels);
    copyBack(o, channels, chunk.count, shape.valueDim, f.y + chunk.firstRow * shape.outputWidth() + head * shape.valueDim,
             shape.outputWidth());
    multiplyElements(own.k, own.end, 1, rows * keyChannels, scaled);
    advance(shape, chunk, own.whole, scaled, u, state);
  }
  if (kept != nullptr) copyBack(state, channels, shape.keyDim, shape.valueDim, kept, shape.valueDim);
}

/// kimiDeltaRule(heads[N·W], beta[N·H], decay[N·H·Dk], aLog[H], dtBias[H·Dk], y[N·H·Dv], state[H·Dk·Dv] | null,
///               starts[documents + 1], documents, H, Dk, Dv). A state is read, and that after the last token written.
double kimiDeltaRule(const Arguments& args) {
  Forward f{};
  f.shape = channelShapeOf(args, 7);
  const Shape& shape = f.shape;
  f.in = inputsOf(args, shape);
  f.y = args.floats(5, shape.documents.tokens() * shape.outputWidth());
  f.state = args.optionalFloats(6, shape.keyHeads * shape.keyDim * shape.valueDim);
  if (f.state != nullptr && shape.documents.count() != 1) throw std::runtime_error("a state belongs to one document");
  parallelItems(shape.items(), [&](size_t item) { computeItem(f, Item(shape, item)); });
  return 0;
}

SLUICE_EXPORT(kimiDeltaRule, kimiDeltaRule);

}  // namespace

}  // namespace sluice::delta
