// Sums along a row, in an order that no vector width changes: sixteen sums side by side, element i in sum i mod 16, joined
// by halves at the end. They fill one register of AVX-512, two of AVX2, four of NEON.

#pragma once

#include <algorithm>

#include "simd.h"

namespace sluice {

constexpr size_t kSums = 16;

/// Adds up terms of elements 0 to `count`−1. `add(sum, i, lanes)` gives `sum` plus the terms of the elements from i on, in the
/// first `lanes` lanes (which may be none), and plus zeros in the others: loadUpTo serves. It may also store what it computed.
/// @tparam chains each sixteen elements go to the next of so many sums, where one would wait for each addition
template <size_t chains = 1, typename Add>
inline float sumOfLanes(size_t count, const Add& add) {
  constexpr size_t kParts = kSums / kWidth;
  Vec sums[chains][kParts] = {};
  size_t chain = 0, i = 0;
  const auto addSixteen = [&](Vec (&sum)[kParts], const auto& lanesFrom) {
#pragma GCC unroll 4
    for (size_t part = 0; part < kParts; ++part) sum[part] = add(sum[part], i + part * kWidth, lanesFrom(part * kWidth));
  };
  for (; i + chains * kSums <= count;) {
#pragma GCC unroll 4
    for (size_t c = 0; c < chains; ++c, i += kSums) addSixteen(sums[c], [](size_t) { return kWidth; });
  }
  for (; i < count; i += kSums, ++chain) {
    const size_t rest = count - i;
    addSixteen(sums[chain], [rest](size_t offset) { return std::min(kWidth, rest - std::min(rest, offset)); });
  }
  for (size_t half = chains / 2; half > 0; half /= 2) {
    for (size_t c = 0; c < half; ++c) {
      for (size_t part = 0; part < kParts; ++part) sums[c][part] += sums[c + half][part];
    }
  }
  Vec(&sum)[kParts] = sums[0];
  for (size_t half = kParts / 2; half > 0; half /= 2) {
    for (size_t part = 0; part < half; ++part) sum[part] += sum[part + half];
  }
  return joinLanes(sum[0], [](Vec a, Vec b) { return a + b; });
}

}  // namespace sluice
