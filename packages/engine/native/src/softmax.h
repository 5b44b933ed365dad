// Softmax of one row.

#pragma once

#include <algorithm>
#include <limits>

#include "lanes.h"
#include "logarithm.h"

namespace sluice {

/// Writes the probabilities of `count` logits to `probability`, which has room for whole vectors (the lanes beyond become
/// 0) and may be the logits. Returns log Σ e^logit.
inline float softmaxRow(const float* logits, float* probability, size_t count) {
  const float lowest = -std::numeric_limits<float>::infinity();
  const auto at = [&](size_t i, float fill) {
    return i + kWidth <= count ? load(logits + i) : loadPart(logits + i, count - i, fill);
  };
  Vec most = broadcast(lowest);
  for (size_t i = 0; i < count; i += kWidth) most = maximum(most, at(i, lowest));
  const float largest = maxLanes(most);
  const float total = sumOfLanes(count, [&](Vec sum, size_t i, size_t lanes) {
    if (lanes == 0) return sum;
    Vec value = exponential(at(i, largest) - largest);
    for (size_t lane = lanes; lane < kWidth; ++lane) value[lane] = 0;
    store(probability + i, value);
    return sum + value;
  });
  for (size_t i = 0; i < count; i += kWidth) store(probability + i, load(probability + i) / total);
  return static_cast<float>(static_cast<double>(largest) + logarithm(total));
}

}  // namespace sluice
