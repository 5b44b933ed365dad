// The last linear layer and the cross-entropy of its logits, together: loss = Σ_n logsumexp(x_n·Wᵀ) − logit of the target.
// Logits exist for a block of tokens at a time. Their gradient is scale·(softmax − one-hot) = f·(e − s·one-hot), where e are
// the logits' exponentials, s is their sum, and f = scale / s. The factor in brackets is formed in the logits' place; f goes
// into the much smaller x and dx: dx = f·((e − s·one-hot)·W), dW = (e − s·one-hot)ᵀ·(f·x).
// Where logits are capped, c·tanh(x·wᵀ / c), the factor in brackets is multiplied by the cap's slope, 1 − tanh².

#include <limits>
#include <vector>

#include "addon.h"
#include "gemm.h"
#include "lanes.h"
#include "logarithm.h"
#include "parallel.h"

namespace sluice {

/// Most floats of a block of logits (16 MiB), and the number of tokens in one; the order of the sum in dW depends on them.
constexpr size_t kMostLogits = size_t{1} << 22;
constexpr size_t kLeastTokens = 64, kMostTokens = 512;

static size_t tokensTogether(size_t vocabulary) {
  return std::min(kMostTokens, std::max(kLeastTokens, kMostLogits / vocabulary / kLeastTokens * kLeastTokens));
}

/// Logits of a row with what is added to it, so that it fills all lanes of its sum.
static size_t paddedRow(size_t vocabulary) { return (vocabulary + kSums - 1) / kSums * kSums; }

/// Distance between rows of logits: never a power of two, which would crowd few sets of the caches.
static size_t rowStride(size_t vocabulary) { return paddedRow(vocabulary) + 16; }

/// Turns logits x into cap·tanh(x / cap), and keeps the slopes of that.
static void capLogits(float* row, size_t vocabulary, float cap, float* slopes) {
  for (size_t v = 0; v < vocabulary; v += kWidth) {
    const size_t lanes = vocabulary - v;
    const Vec capped = hyperbolicTangent(loadUpTo(row + v, lanes) / cap);
    storeUpTo(row + v, capped * cap, lanes);
    storeUpTo(slopes + v, 1.0f - capped * capped, lanes);
  }
}

/// Turns logits into e^(logit − max), padding into nothing. @returns the loss with respect to `target`
static double exponentials(float* row, size_t vocabulary, int32_t target, float* sum) {
  const size_t padded = paddedRow(vocabulary);
  std::fill(row + vocabulary, row + padded, -std::numeric_limits<float>::infinity());
  Vec most = load(row);
  for (size_t v = kWidth; v < padded; v += kWidth) most = maximum(most, load(row + v));
  const float shift = maxLanes(most), wanted = row[target];
  *sum = sumOfLanes<4>(padded, [=](Vec all, size_t v, size_t) {
    const Vec e = exponential(load(row + v) - shift);
    store(row + v, e);
    return all + e;
  });
  return logarithm(*sum) + static_cast<double>(shift) - static_cast<double>(wanted);
}

/// to = from · factor, of one token.
static void multiplyRow(const float* from, float factor, float* to, size_t length) {
  for (size_t i = 0; i < length; i += kWidth) storeUpTo(to + i, loadUpTo(from + i, length - i) * factor, length - i);
}

/// linearCrossEntropy(x[N·C], weight[V·C], targets[N], losses[N] ←, dx[N·C] ← | null, dWeight[V·C] ← | null, N, C, V, scale,
/// accumulate, cap). A cap of 0 is none. A negative target is left out: its loss and gradient are zero. @returns the sum of the losses
static double linearCrossEntropy(const Arguments& args) {
  static thread_local Scratch logitsMemory, scaledMemory, factorMemory;
  const size_t tokens = args.size(6), channels = args.size(7), vocabulary = args.size(8);
  const float scale = static_cast<float>(args.number(9));
  const bool accumulate = args.boolean(10);
  const float cap = static_cast<float>(args.number(11));
  const float *x = args.floats(0, tokens * channels), *weight = args.floats(1, vocabulary * channels);
  const int32_t* targets = args.integers(2, tokens);
  float *losses = args.floats(3, tokens), *dx = args.optionalFloats(4, tokens * channels);
  float* dWeight = args.optionalFloats(5, vocabulary * channels);
  for (size_t n = 0; n < tokens; ++n) {
    if (targets[n] >= static_cast<int32_t>(vocabulary)) {
      throw std::runtime_error("target " + std::to_string(targets[n]) + " of token " + std::to_string(n) +
                               " is beyond the vocabulary of " + std::to_string(vocabulary));
    }
  }
  const size_t together = tokensTogether(vocabulary), stride = rowStride(vocabulary);
  const size_t most = std::min(tokens, together);
  float* logits = logitsMemory.floats(most * stride);
  float *scaled = scaledMemory.floats(most * channels), *factors = factorMemory.floats(most);
  const Factor toLogits(true, transposed(weight, channels), vocabulary, channels, tokens, 0);
  double total = 0;
  for (size_t begin = 0; begin < tokens; begin += together) {
    const size_t count = std::min(together, tokens - begin);
    toLogits.multiply(true, plain(x + begin * channels, channels), 0, logits, stride, count);
    parallelFor(count, 4, [&](size_t first, size_t last) {
      std::vector<float> slopes(cap > 0 ? vocabulary : 0);
      for (size_t n = first; n < last; ++n) {
        const int32_t target = targets[begin + n];
        float* row = logits + n * stride;
        float sum = 0;
        if (cap > 0) capLogits(row, vocabulary, cap, slopes.data());
        losses[begin + n] = target < 0 ? 0 : static_cast<float>(exponentials(row, vocabulary, target, &sum));
        if (!dx) continue;
        if (target < 0) std::fill_n(row, vocabulary, 0.0f);
        else row[target] -= sum;
        for (size_t v = 0; cap > 0 && v < vocabulary; ++v) row[v] *= slopes[v];
        factors[n] = target < 0 ? 0 : scale / sum;
        multiplyRow(x + (begin + n) * channels, factors[n], scaled + n * channels, channels);
      }
    });
    // Here the weights need not be turned, so that packing them for each block costs less time than it saves memory.
    if (dx) {
      float* rows = dx + begin * channels;
      multiplyShared(plain(logits, stride), plain(weight, channels), 0, rows, channels, count, channels, vocabulary);
      for (size_t n = 0; n < count; ++n) multiplyRow(rows + n * channels, factors[n], rows + n * channels, channels);
    }
    if (dWeight) {
      const float beta = accumulate || begin > 0 ? 1 : 0;
      multiplyShared(transposed(logits, stride), plain(scaled, channels), beta, dWeight, channels, vocabulary, channels, count);
    }
    for (size_t n = begin; n < begin + count; ++n) total += static_cast<double>(losses[n]);
  }
  if (tokens == 0 && dWeight && !accumulate) std::fill_n(dWeight, vocabulary * channels, 0.0f);
  return total;
}

SLUICE_EXPORT(linearCrossEntropy, linearCrossEntropy);

}  // namespace sluice
