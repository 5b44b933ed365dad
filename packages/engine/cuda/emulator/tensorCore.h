/**
 * How tensor cores add, so that the emulator gives a GPU's bits. NVIDIA does not document it; it was found by experiments and
 * published: Xie et al., "MMA-Sim: Bit-Accurate Reference Model of Tensor Cores and Matrix Cores" (arXiv 2511.10909, 2025).
 *
 * For bf16 operands and float sums: the products of a group and the old sum are aligned to the largest exponent among them, cut
 * (towards zero) to some fractional bits, added exactly, and the sum is cut to a float. Ampere and Ada have groups of 8 and 24
 * fractional bits; Hopper has groups of 16 and 25, for mma.sync as for wgmma.
 */
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "machine.h"

namespace emulator {

/** significand · 2^(exponent − 23). Zero has the exponent of the smallest normal float, and so have subnormal ones. */
struct Term {
  int64_t significand;
  int exponent;

  explicit Term(float x) {
    const uint32_t bits = __float_as_uint(x);
    const int biased = static_cast<int>(bits >> 23 & 0xff);
    const int64_t magnitude = biased ? (bits & 0x7fffff) | 0x800000 : bits & 0x7fffff;
    significand = bits >> 31 ? -magnitude : magnitude;
    exponent = (biased ? biased : 1) - 127;
  }
};

/** Sixteen values of bf16, as a row of the left operand or a column of the right one has them, taken apart once for many sums. */
struct Factors {
  float values[16];
  /** value = significand · 2^(exponent − 7); a zero's exponent is below all others, also in a product. */
  int32_t significands[16];
  int32_t exponents[16];
  bool isFinite = true, isZero = true;

  Factors() = default;
  explicit Factors(const float* from) {
    for (int i = 0; i < 16; i++) {
      values[i] = from[i];
      const Term term(from[i]);
      significands[i] = static_cast<int32_t>(term.significand >> 16);
      exponents[i] = significands[i] == 0 ? -1000 : term.exponent;
      isFinite = isFinite && std::isfinite(from[i]);
      isZero = isZero && from[i] == 0;
    }
  }
};

/** c + Σ a[i]·b[i] over one group, from `first` until before `end`. */
inline float sumOfGroup(const Factors& a, const Factors& b, int first, int end, float c, int fractionalBits) {
  if (!a.isFinite || !b.isFinite || !std::isfinite(c)) {
    double plain = c;
    for (int i = first; i < end; i++) plain += static_cast<double>(a.values[i]) * b.values[i];
    if (!std::isfinite(plain)) return static_cast<float>(plain);
  }
  // Nothing is cut where there is one term; the sum of zeros is a positive one.
  if (a.isZero || b.isZero) return c + 0.0f;
  const Term old(c);
  int top = old.exponent;
  for (int i = first; i < end; i++) top = std::max(top, a.exponents[i] + b.exponents[i]);
  // Cuts what is below 2^(top − fractionalBits); at most `fractionalBits` − 23 zeros are to be had on the right.
  const auto cut = [&](int64_t significand, int bits, int exponent) {
    const int64_t magnitude = std::abs(significand) << (fractionalBits - bits) >> std::min(top - exponent, 63);
    return significand < 0 ? -magnitude : magnitude;
  };
  int64_t sum = cut(old.significand, 23, old.exponent);
  for (int i = first; i < end; i++) sum += cut(a.significands[i] * b.significands[i], 14, a.exponents[i] + b.exponents[i]);
  if (sum == 0) return 0;
  // Cut to 24 bits, and to the spacing of subnormal floats.
  auto magnitude = static_cast<uint64_t>(std::abs(sum));
  int exponent = top - fractionalBits;
  const int surplus = 64 - __builtin_clzll(magnitude) - 24;
  const int drop = std::max({surplus, -149 - exponent, 0});
  magnitude = drop < 64 ? magnitude >> drop : 0;
  const float value = std::ldexp(static_cast<float>(magnitude), exponent + drop);
  return sum < 0 ? -value : value;
}

/** c + Σ a[i]·b[i] over the 16 products of one matrix instruction. */
inline float sumOf16(const Factors& a, const Factors& b, float c, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::ampere:
      return sumOfGroup(a, b, 8, 16, sumOfGroup(a, b, 0, 8, c, 24), 24);
    case Arithmetic::hopper:
      return sumOfGroup(a, b, 0, 16, c, 25);
    case Arithmetic::exact:
      break;
  }
  double sum = c;
  for (int i = 0; i < 16; i++) sum += static_cast<double>(a.values[i]) * b.values[i];
  return static_cast<float>(sum);
}

}  // namespace emulator
