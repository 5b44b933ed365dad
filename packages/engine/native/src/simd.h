// Vectors in the compiler's own types: one source for AVX-512, AVX2, SSE, NEON and no vectors at all. `kWidth` floats fit in
// one register.
//
// Every result is the same on each of them that has a fused multiply-add, since nothing is left to the compiler: it may not
// contract (build.js), so a·b + c is two roundings, and `fused(a, b, c)` is one; sums along a row go through sixteen logical
// lanes (lanes.h) and not through those of a register; functions are our own (here and in logarithm.h), made of additions,
// multiplications, divisions and square roots, which IEEE 754 rounds the same way everywhere.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

// GCC's own functions, where it has them: its header, which makes intrinsics of them, takes a third of a second in each file.
#if defined(__x86_64__) && !defined(__clang__) && defined(__has_builtin)
#if defined(__AVX512F__)
#if __has_builtin(__builtin_ia32_vfmaddps512_mask)
#define SLUICE_GCC_FUSED
#endif
#elif __has_builtin(__builtin_ia32_vfmaddps256)
#define SLUICE_GCC_FUSED
#endif
#endif

#if defined(SLUICE_SCALAR)
#elif defined(__x86_64__) && !defined(SLUICE_GCC_FUSED)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace sluice {

#if defined(SLUICE_SCALAR)
constexpr size_t kWidth = 1;
#elif defined(__AVX512F__)
constexpr size_t kWidth = 16;
#elif defined(__AVX__)
constexpr size_t kWidth = 8;
#else
constexpr size_t kWidth = 4;
#endif

/// Whether `fused` is one rounding. CPUs without such an instruction get other bits (and another name in `arithmetic()`),
/// unless vectors are off: then the C library's function, which is exact and slow, takes its place.
#if defined(SLUICE_SCALAR) || defined(__FMA__) || defined(__AVX512F__) || defined(__aarch64__)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

typedef float Vec __attribute__((vector_size(kWidth * sizeof(float))));
typedef int32_t VecInt __attribute__((vector_size(kWidth * sizeof(int32_t))));
typedef uint32_t VecBits __attribute__((vector_size(kWidth * sizeof(uint32_t))));

inline Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, Vec v) { std::memcpy(p, &v, sizeof v); }
/// The first `count` < kWidth lanes from memory, `fill` in the others. With `storePart`, the rest of a range goes through
/// the same code as whole vectors, so that where a range begins or ends changes no bit.
inline Vec loadPart(const float* p, size_t count, float fill = 0.0f) {
  float lane[kWidth];
  for (size_t i = 0; i < kWidth; ++i) lane[i] = fill;
  std::memcpy(lane, p, count * sizeof(float));
  Vec v;
  std::memcpy(&v, lane, sizeof v);
  return v;
}
inline void storePart(float* p, Vec v, size_t count) { std::memcpy(p, &v, count * sizeof(float)); }
/// A whole vector, or the first `count` lanes where there are fewer.
inline Vec loadUpTo(const float* p, size_t count) { return count >= kWidth ? load(p) : loadPart(p, count); }
inline void storeUpTo(float* p, Vec v, size_t count) {
  if (count >= kWidth) store(p, v);
  else storePart(p, v, count);
}
inline Vec broadcast(float x) { return x - Vec{}; }  // (x − 0 is x, also for −0.)

/// a·b + c with one rounding, where the CPU can; with two where it can't (see kFused).
inline float fused(float a, float b, float c) { return kFused ? std::fma(a, b, c) : a * b + c; }
inline Vec fused(Vec a, Vec b, Vec c) {
#if defined(SLUICE_SCALAR)
  return Vec{std::fma(a[0], b[0], c[0])};
#elif defined(__AVX512F__) && defined(SLUICE_GCC_FUSED)
  return __builtin_ia32_vfmaddps512_mask(a, b, c, 0xffff, 4);  // (all lanes, rounded as the CPU is set to)
#elif defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__) && defined(SLUICE_GCC_FUSED)
  return __builtin_ia32_vfmaddps256(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
inline Vec fused(Vec a, float b, Vec c) { return fused(a, broadcast(b), c); }
inline Vec fused(Vec a, Vec b, float c) { return fused(a, b, broadcast(c)); }
inline Vec fused(Vec a, float b, float c) { return fused(a, broadcast(b), broadcast(c)); }

// Lanes of `a` (0 to kWidth−1) and `b` (from kWidth on) in the order of `indices`.
#if defined(__clang__) || __GNUC__ >= 12
template <int... indices>
inline Vec shuffle(Vec a, Vec b) {
  return __builtin_shufflevector(a, b, indices...);
}
#else
template <int... indices>
inline Vec shuffle(Vec a, Vec b) {
  return __builtin_shuffle(a, b, VecInt{indices...});
}
#endif

// Swaps the off-diagonal blocks of `step` × `step` between rows i and i + step, for every such pair of rows.
template <int step, size_t... lane>
inline void transposeStep(Vec (&rows)[kWidth], std::index_sequence<lane...>) {
#pragma GCC unroll 16
  for (size_t i = 0; i < kWidth; ++i) {
    if (i & step) continue;
    const Vec a = rows[i], b = rows[i + step];
    rows[i] = shuffle<((lane & step) ? int(kWidth + lane) - step : int(lane))...>(a, b);
    rows[i + step] = shuffle<((lane & step) ? int(kWidth + lane) : int(lane) + step)...>(a, b);
  }
}

/// Transposes a square of kWidth × kWidth numbers in registers.
inline void transpose(Vec (&rows)[kWidth]) {
  constexpr auto lanes = std::make_index_sequence<kWidth>();
  if constexpr (kWidth >= 16) transposeStep<8>(rows, lanes);
  if constexpr (kWidth >= 8) transposeStep<4>(rows, lanes);
  if constexpr (kWidth >= 4) transposeStep<2>(rows, lanes);
  if constexpr (kWidth >= 2) transposeStep<1>(rows, lanes);
}

// Each lane gets the one that lies `distance` lanes further on (around the end).
template <size_t distance, size_t... lane>
inline Vec rotate(Vec v, std::index_sequence<lane...>) {
  return shuffle<int((lane + distance) % kWidth)...>(v, v);
}

/// All lanes joined into one, by halves: lane i with lane i + kWidth/2 first.
template <typename Join>
inline float joinLanes(Vec v, const Join& join) {
  constexpr auto lanes = std::make_index_sequence<kWidth>();
  if constexpr (kWidth >= 16) v = join(v, rotate<8>(v, lanes));
  if constexpr (kWidth >= 8) v = join(v, rotate<4>(v, lanes));
  if constexpr (kWidth >= 4) v = join(v, rotate<2>(v, lanes));
  if constexpr (kWidth >= 2) v = join(v, rotate<1>(v, lanes));
  return v[0];
}

inline Vec maximum(Vec a, Vec b) { return a > b ? a : b; }
inline Vec minimum(Vec a, Vec b) { return a < b ? a : b; }

inline float maxLanes(Vec v) { return joinLanes(v, maximum); }

inline Vec squareRoot(Vec v) {
  for (size_t i = 0; i < kWidth; ++i) v[i] = std::sqrt(v[i]);
  return v;
}
// Adding 1.5·2^23 + 127 rounds to a whole number n, and leaves n + 127, the exponent's bits of 2^n, in the lowest bits.
constexpr float kRounding = 12582912.0f + 127.0f;

/// 2^n for a whole number n, -126 to 127, from n + kRounding.
inline Vec power2(Vec shifted) { return (Vec)((VecBits)shifted << 23); }

/// e^x with a relative error below 2.5e-7 for x in [-87, 88]; inputs outside are clamped to that range.
/// Cody–Waite reduction to |r| ≤ ln2/2, then a polynomial of degree 6.
inline Vec exponential(Vec x) {
  // In this order of arguments NaN stays NaN.
  x = minimum(broadcast(88.0f), maximum(broadcast(-87.0f), x));
  const Vec shifted = fused(x, 1.44269504088896341f, kRounding);
  const Vec n = shifted - kRounding;
  const Vec r = fused(n, 2.12194440e-4f, fused(n, -0.693359375f, x));
  Vec p = fused(r, 1.3981999507e-3f, 8.3334519073e-3f);
  p = fused(p, r, 4.1665795894e-2f);
  p = fused(p, r, 1.6666665459e-1f);
  p = fused(p, r, 5.0000001201e-1f);
  return (fused(p * r, r, r) + 1.0f) * power2(shifted);
}

/// 2^x with a relative error below 2e-7 for x up to 127; 0 below −64, where a term no longer counts beside 1 (and would
/// lead to denormal numbers, which are slow). NaN stays NaN.
inline Vec exponential2(Vec x) {
  const Vec shifted = x + kRounding;
  const Vec r = x - (shifted - kRounding);
  Vec p = fused(r, 1.326472731e-3f, 9.671512991e-3f);
  p = fused(p, r, 5.550733581e-2f);
  p = fused(p, r, 2.402224243e-1f);
  p = fused(p, r, 6.931470037e-1f);
  p = fused(p, r, 1.0f);
  return x < -64.0f ? Vec{} : p * power2(shifted);
}

/// 1 / (1 + e^-x), with a relative error below 3e-7 for x ≥ -87; further down it stays at 6e-39.
inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exponential(-x)); }

/// tanh x, with a relative error below 4e-7: an odd polynomial of degree 11 (Cephes) where |x| < 0.625, beyond that by e^(−2|x|).
inline Vec hyperbolicTangent(Vec x) {
  const Vec square = x * x;
  Vec p = fused(square, -5.70498872745e-3f, 2.06390887954e-2f);
  p = fused(p, square, -5.37397155531e-2f);
  p = fused(p, square, 1.33314422036e-1f);
  p = fused(p, square, -3.33332819422e-1f);
  const Vec near = fused(p * square, x, x);
  const Vec size = maximum(x, -x), e = exponential(-2.0f * size);
  const Vec far = (1.0f - e) / (1.0f + e);
  return size < 0.625f ? near : x < 0.0f ? -far : far;
}

/// x / (1 + e^-x), with a relative error below 3.5e-7 for x ≥ -87.
inline Vec silu(Vec x) { return x * sigmoid(x); }

}  // namespace sluice
