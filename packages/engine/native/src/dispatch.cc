// Tokens to the rows of their experts and back. N tokens, K experts a token, M = N·K rows sorted by expert, C channels.
// `order[m]` is the slot n·K + k of row m, `position` its inverse.

#include <cstring>

#include "addon.h"
#include "lanes.h"
#include "parallel.h"

namespace sluice {

static void checkPermutation(const int32_t* indices, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (indices[i] < 0 || static_cast<size_t>(indices[i]) >= count) {
      throw std::runtime_error("index " + std::to_string(indices[i]) + " of the plan is not below " + std::to_string(count));
    }
  }
}

// Rows that are fetched so far ahead: they lie apart, where the CPU does not foresee them.
constexpr size_t kRowsAhead = 2;

static void prefetchRow(const float* row, size_t width) {
  for (size_t c = 0; c < width; c += 16) __builtin_prefetch(row + c);
}

static void copyRow(const float* row, float* target, size_t width) {
  size_t c = 0;
  for (; c + kWidth <= width; c += kWidth) store(target + c, load(row + c));
  if (c < width) storePart(target + c, loadPart(row + c, width - c), width - c);
}

/// target = Σ_k weight_k · row_k, or Σ_k row_k without weights, in order of k.
static void sumRows(const float* rows, const int32_t* position, const float* weights, size_t topK, float* target,
                    size_t width) {
  for (size_t c = 0; c < width; c += kWidth) {
    const size_t count = std::min(kWidth, width - c);
    Vec sum = {};
    for (size_t k = 0; k < topK; ++k) {
      const float* row = rows + static_cast<size_t>(position[k]) * width + c;
      const Vec value = count == kWidth ? load(row) : loadPart(row, count);
      sum = weights == nullptr ? sum + value : fused(value, weights[k], sum);
    }
    if (count == kWidth) {
      store(target + c, sum);
    } else {
      storePart(target + c, sum, count);
    }
  }
}

/// dispatchTokens(x[N·C], order[M], y[M·C], N, K, C)
static double dispatchTokens(const Arguments& args) {
  const size_t tokens = args.size(3), topK = args.size(4), width = args.size(5), rows = tokens * topK;
  const float* x = args.floats(0, tokens * width);
  const int32_t* order = args.integers(1, rows);
  float* y = args.floats(2, rows * width);
  checkPermutation(order, rows);
  parallelFor(rows, 64, [&](size_t begin, size_t end) {
    for (size_t m = begin; m < end; ++m) {
      if (m + kRowsAhead < end) prefetchRow(x + static_cast<size_t>(order[m + kRowsAhead]) / topK * width, width);
      copyRow(x + static_cast<size_t>(order[m]) / topK * width, y + m * width, width);
    }
  });
  return 0;
}

/// combineTokens(y[M·C], weights[N·K] or null, position[M], out[N·C], N, K, C)
static double combineTokens(const Arguments& args) {
  const size_t tokens = args.size(4), topK = args.size(5), width = args.size(6), rows = tokens * topK;
  const float *y = args.floats(0, rows * width), *weights = args.optionalFloats(1, rows);
  const int32_t* position = args.integers(2, rows);
  float* out = args.floats(3, tokens * width);
  checkPermutation(position, rows);
  parallelFor(tokens, 32, [&](size_t begin, size_t end) {
    for (size_t n = begin; n < end; ++n) {
      sumRows(y, position + n * topK, weights == nullptr ? nullptr : weights + n * topK, topK, out + n * width, width);
    }
  });
  return 0;
}

/// combineTokensBackward(y[M·C], weights[N·K], order[M], dout[N·C], dy[M·C], dWeights[N·K], N, K, C): dy may be y.
static double combineTokensBackward(const Arguments& args) {
  const size_t tokens = args.size(6), topK = args.size(7), width = args.size(8), rows = tokens * topK;
  const float *y = args.floats(0, rows * width), *weights = args.floats(1, rows);
  const int32_t* order = args.integers(2, rows);
  const float* dOut = args.floats(3, tokens * width);
  float *dy = args.floats(4, rows * width), *dWeights = args.floats(5, rows);
  checkPermutation(order, rows);
  // Row by row, so that the two largest arrays are read and written as they lie.
  parallelFor(rows, 32, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const size_t slot = static_cast<size_t>(order[row]);
      const float *gradient = dOut + slot / topK * width, *value = y + row * width;
      const float weight = weights[slot];
      float* out = dy + row * width;
      dWeights[slot] = sumOfLanes(width, [&](Vec sum, size_t c, size_t lanes) {
        const Vec g = loadUpTo(gradient + c, lanes);
        sum = fused(g, loadUpTo(value + c, lanes), sum);
        storeUpTo(out + c, g * weight, lanes);
        return sum;
      });
    }
  });
  return 0;
}

SLUICE_EXPORT(dispatchTokens, dispatchTokens);
SLUICE_EXPORT(combineTokens, combineTokens);
SLUICE_EXPORT(combineTokensBackward, combineTokensBackward);

}  // namespace sluice
