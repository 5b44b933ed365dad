// A multiplicative gate on tensors that are divided into heads, from its logits: y ⊙ σ(logits), where σ is the sigmoid or
// x·sigmoid(x), each head has a score for each channel or one for all, and heads may share the mean of their scores.

#include <vector>

#include "addon.h"
#include "lanes.h"
#include "parallel.h"
#include "scratch.h"

namespace sluice {

struct GateShape {
  size_t heads, channels, scores;  // scores of one head: 1 or `channels`
  bool isSilu, isShared;

  size_t width() const { return heads * channels; }
  size_t logits() const { return heads * scores; }
};

static GateShape gateShape(const Arguments& args, size_t first) {
  const size_t heads = args.size(first), channels = args.size(first + 1);
  const bool isHeadwise = args.boolean(first + 2);
  return {heads, channels, isHeadwise ? 1 : channels, args.boolean(first + 3), args.boolean(first + 4)};
}

/// σ of a token's logits, and where `slopes` is given, its derivative.
static void activate(const GateShape& shape, const float* logits, float* scores, float* slopes) {
  const size_t count = shape.logits();
  for (size_t i = 0; i < count; i += kWidth) {
    const Vec x = loadUpTo(logits + i, count - i);
    const Vec s = sigmoid(x);
    storeUpTo(scores + i, shape.isSilu ? x * s : s, count - i);
    if (slopes) storeUpTo(slopes + i, shape.isSilu ? s * fused(x, 1.0f - s, 1.0f) : s * (1.0f - s), count - i);
  }
}

/// The mean over the heads, in the place of the first head's scores.
static void averageHeads(const GateShape& shape, float* scores) {
  const float share = 1.0f / static_cast<float>(shape.heads);
  for (size_t i = 0; i < shape.scores; i += kWidth) {
    const size_t lanes = shape.scores - i;
    Vec sum = {};
    for (size_t head = 0; head < shape.heads; ++head) sum += loadUpTo(scores + head * shape.scores + i, lanes);
    storeUpTo(scores + i, sum * share, lanes);
  }
}

/// The scores of a head's channels from channel `c` on.
static Vec scoresOf(const GateShape& shape, const float* scores, size_t head, size_t c) {
  const float* own = shape.isShared ? scores : scores + head * shape.scores;
  return shape.scores == 1 ? broadcast(*own) : loadUpTo(own + c, shape.channels - c);
}

static void gateRow(const GateShape& shape, const float* y, const float* scores, float* out) {
  for (size_t head = 0; head < shape.heads; ++head) {
    for (size_t c = 0; c < shape.channels; c += kWidth) {
      const size_t at = head * shape.channels + c, lanes = shape.channels - c;
      storeUpTo(out + at, loadUpTo(y + at, lanes) * scoresOf(shape, scores, head, c), lanes);
    }
  }
}

/// Gradients of the scores before sharing: dOut·y, summed over the channels of a headwise gate.
static void scoreGradients(const GateShape& shape, const float* y, const float* dOut, float* gradients) {
  for (size_t head = 0; head < shape.heads; ++head) {
    const float *ofHead = y + head * shape.channels, *dOfHead = dOut + head * shape.channels;
    if (shape.scores == 1) {
      gradients[head] = sumOfLanes(shape.channels, [&](Vec sum, size_t c, size_t lanes) {
        return fused(loadUpTo(ofHead + c, lanes), loadUpTo(dOfHead + c, lanes), sum);
      });
      continue;
    }
    for (size_t c = 0; c < shape.channels; c += kWidth) {
      const size_t lanes = shape.channels - c;
      storeUpTo(gradients + head * shape.channels + c, loadUpTo(ofHead + c, lanes) * loadUpTo(dOfHead + c, lanes), lanes);
    }
  }
}

/// gateHeads(y[rows·H·D], logits[rows·H·S], out[rows·H·D], rows, heads, channels, isHeadwise, isSilu, isShared): out may be y.
static double gateHeads(const Arguments& args) {
  const size_t rows = args.size(3);
  const GateShape shape = gateShape(args, 4);
  const float *y = args.floats(0, rows * shape.width()), *logits = args.floats(1, rows * shape.logits());
  float* out = args.floats(2, rows * shape.width());
  parallelFor(rows, 16, [&](size_t begin, size_t end) {
    static thread_local Scratch scratch;
    float* scores = scratch.floats(shape.logits());
    for (size_t row = begin; row < end; ++row) {
      activate(shape, logits + row * shape.logits(), scores, nullptr);
      if (shape.isShared) averageHeads(shape, scores);
      gateRow(shape, y + row * shape.width(), scores, out + row * shape.width());
    }
  });
  return 0;
}

/// gateHeadsBackward(y, logits, dOut, dy, dLogits, rows, heads, channels, isHeadwise, isSilu, isShared): dy may be dOut,
/// dLogits may be logits.
static double gateHeadsBackward(const Arguments& args) {
  const size_t rows = args.size(5);
  const GateShape shape = gateShape(args, 6);
  const size_t width = shape.width(), count = shape.logits();
  const float *y = args.floats(0, rows * width), *logits = args.floats(1, rows * count);
  const float* dOut = args.floats(2, rows * width);
  float *dy = args.floats(3, rows * width), *dLogits = args.floats(4, rows * count);
  parallelFor(rows, 16, [&](size_t begin, size_t end) {
    static thread_local Scratch scratch;
    float* scores = scratch.floats(3 * count);
    float *slopes = scores + count, *gradients = slopes + count;
    for (size_t row = begin; row < end; ++row) {
      activate(shape, logits + row * count, scores, slopes);
      if (shape.isShared) averageHeads(shape, scores);
      scoreGradients(shape, y + row * width, dOut + row * width, gradients);
      if (shape.isShared) averageHeads(shape, gradients);
      gateRow(shape, dOut + row * width, scores, dy + row * width);
      for (size_t i = 0; i < count; ++i) {
        const float gradient = gradients[shape.isShared ? i % shape.scores : i];
        dLogits[row * count + i] = gradient * slopes[i];
      }
    }
  });
  return 0;
}

SLUICE_EXPORT(gateHeads, gateHeads);
SLUICE_EXPORT(gateHeadsBackward, gateHeadsBackward);

}  // namespace sluice
