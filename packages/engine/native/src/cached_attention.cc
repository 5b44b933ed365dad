// Gated causal attention of a few new tokens to all tokens so far. One item of work is a query head of a new token: its
// scores fit in a row, so there is no blocking, and reading the cached keys and values once is all the cost.

#include <algorithm>
#include <cmath>

#include "addon.h"
#include "lanes.h"
#include "parallel.h"
#include "scratch.h"
#include "softmax.h"

namespace sluice {

namespace {

float dot(const float* a, const float* b, size_t count) {
  return sumOfLanes(count, [&](Vec sum, size_t c, size_t lanes) {
    return fused(loadUpTo(a + c, lanes), loadUpTo(b + c, lanes), sum);
  });
}

/// cachedAttention(q[T·H·D], keys[S·K·D], values[S·K·D], gate[T·H·D] | [T·H] | null, y[T·H·D], T, S, H, K, D, headwise,
///                 window | 0). Of a query's window, its own token is the last.
double cachedAttention(const Arguments& args) {
  const size_t sequence = args.size(5), tokens = args.size(6), heads = args.size(7), keyValueHeads = args.size(8);
  const size_t headDim = args.size(9), width = heads * headDim, cachedWidth = keyValueHeads * headDim;
  const bool headwise = args.boolean(10);
  const size_t window = args.size(11);
  const float* q = args.floats(0, sequence * width);
  const float* keys = args.floats(1, tokens * cachedWidth);
  const float* values = args.floats(2, tokens * cachedWidth);
  const float* gate = args.optionalFloats(3, sequence * (headwise ? heads : width));
  float* y = args.floats(4, sequence * width);
  const float scale = 1.0f / std::sqrt(static_cast<float>(headDim));

  const size_t multiplications = 2 * headDim * (window == 0 ? tokens : std::min(tokens, window));
  parallelFor(sequence * heads, 1 + kLeastShared / 2 / multiplications, [&](size_t begin, size_t end) {
    static thread_local Scratch scratch;
    float* weights = scratch.floats(tokens + kWidth);
    for (size_t item = begin; item < end; ++item) {
      const size_t token = item / heads, head = item % heads, at = token * width + head * headDim;
      const size_t offset = head / (heads / keyValueHeads) * headDim, visible = tokens - sequence + token + 1;
      const size_t first = window != 0 && visible > window ? visible - window : 0;
      for (size_t s = first; s < visible; ++s) {
        weights[s - first] = scale * dot(q + at, keys + s * cachedWidth + offset, headDim);
      }
      softmaxRow(weights, weights, visible - first);
      for (size_t c = 0; c < headDim; c += kWidth) {
        const size_t count = headDim - c;
        Vec sum = {};
        for (size_t s = first; s < visible; ++s) {
          sum = fused(loadUpTo(values + s * cachedWidth + offset + c, count), weights[s - first], sum);
        }
        if (gate != nullptr) {
          sum *= sigmoid(headwise ? broadcast(gate[item]) : loadUpTo(gate + at + c, count));
        }
        storeUpTo(y + at + c, sum, count);
      }
    }
  });
  return 0;
}

SLUICE_EXPORT(cachedAttention, cachedAttention);

}  // namespace

}  // namespace sluice
