// Vectors in the compiler's own types: one source for AVX-512, AVX2, SSE and NEON. `kWidth` floats fit in one register.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace sluice {

#if defined(__AVX512F__)
constexpr size_t kWidth = 16;
#elif defined(__AVX__)
constexpr size_t kWidth = 8;
#else
constexpr size_t kWidth = 4;
#endif

typedef float Vec __attribute__((vector_size(kWidth * sizeof(float))));
typedef int32_t VecInt __attribute__((vector_size(kWidth * sizeof(int32_t))));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
inline Vec broadcast(float x) { return Vec{} + x; }

/// Lanes added by halves: a fixed order for each width.
inline float sumLanes(Vec v) {
  float lane[kWidth];
  std::memcpy(lane, &v, sizeof v);
  for (size_t half = kWidth / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}
inline float maxLanes(Vec v) {
  float best = v[0];
  for (size_t i = 1; i < kWidth; ++i) best = v[i] > best ? v[i] : best;
  return best;
}
inline Vec select(VecInt mask, Vec yes, Vec no) {
  return (Vec)((mask & (VecInt)yes) | (~mask & (VecInt)no));
}
inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }
inline Vec minimum(Vec a, Vec b) { return a < b ? a : b; }

/// e^x with a relative error below 2e-7 for x in [-87, 88]; inputs outside are clamped to that range.
/// Cody–Waite reduction to |r| ≤ ln2/2, then a polynomial of degree 6.
inline Vec exponential(Vec x) {
  x = minimum(maximum(x, broadcast(-87.0f)), broadcast(88.0f));
  // Adding and subtracting 1.5·2^23 rounds to the nearest whole number.
  const Vec magic = broadcast(12582912.0f);
  const Vec n = (x * 1.44269504088896341f + magic) - magic;
  Vec r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  Vec p = broadcast(1.3981999507e-3f);
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const VecInt exponent = (__builtin_convertvector(n, VecInt) + 127) << 23;
  return p * (Vec)exponent;
}

/// 1 / (1 + e^-x).
inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

}  // namespace sluice
