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

/** significand · 2^(exponent − bits) with 23 fractional bits for a float, 14 for a product of two bf16. */
struct Term {
  int64_t significand;
  int exponent;
};

/** Zero has the exponent of the smallest normal float, and so have subnormal ones. */
inline Term termOf(float x) {
  const uint32_t bits = __float_as_uint(x);
  const int exponent = static_cast<int>(bits >> 23 & 0xff);
  const int64_t magnitude = exponent ? (bits & 0x7fffff) | 0x800000 : bits & 0x7fffff;
  return {bits >> 31 ? -magnitude : magnitude, (exponent ? exponent : 1) - 127};
}

/** The exact product of two bf16, with 23 fractional bits (of which 14 may be used). */
inline Term productOf(float a, float b) {
  const Term left = termOf(a), right = termOf(b);
  const int64_t significand = (left.significand >> 16) * (right.significand >> 16) << 9;
  return {significand, significand == 0 ? -126 : left.exponent + right.exponent};
}

/** c + Σ a[i]·b[i] over one group of at most 16. */
inline float sumOfGroup(const float* a, const float* b, int length, float c, int fractionalBits) {
  Term terms[17];
  terms[length] = termOf(c);
  double plain = c;
  int top = terms[length].exponent;
  for (int i = 0; i < length; i++) {
    plain += static_cast<double>(a[i]) * b[i];
    terms[i] = productOf(a[i], b[i]);
    if (terms[i].exponent > top) top = terms[i].exponent;
  }
  if (!std::isfinite(plain)) return static_cast<float>(plain);
  int64_t sum = 0;
  for (int i = 0; i <= length; i++) {
    const int shift = fractionalBits - 23 + terms[i].exponent - top;
    const int64_t magnitude = std::abs(terms[i].significand);
    const int64_t cut = shift >= 0 ? magnitude << shift : shift > -63 ? magnitude >> -shift : 0;
    sum += terms[i].significand < 0 ? -cut : cut;
  }
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
inline float sumOf16(const float* a, const float* b, float c, Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::ampere:
      return sumOfGroup(a + 8, b + 8, 8, sumOfGroup(a, b, 8, c, 24), 24);
    case Arithmetic::hopper:
      return sumOfGroup(a, b, 16, c, 25);
    case Arithmetic::exact:
      break;
  }
  double sum = c;
  for (int i = 0; i < 16; i++) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(sum);
}

}  // namespace emulator
