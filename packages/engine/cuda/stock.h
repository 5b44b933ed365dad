/**
 * What the kernels for TensorFlow.js's own operations share. Their arrays may be of any storage, which is an argument: one kernel
 * serves all, since they wait for memory in any case. Integers that floats cannot hold have kernels of their own.
 */
#pragma once

#include "device.h"

/** As `STORAGE` in `src/cuda/stock/layout.ts`. */
constexpr int F32 = 0, BF16 = 1, I32 = 2;

/** Towards zero; modulo 2³² as JavaScript does it, and 0 for what is no number. */
DEVICE int toInt(float x) {
  return x > -9.2e18f && x < 9.2e18f ? static_cast<int>(static_cast<uint32>(static_cast<long long>(x))) : 0;
}

DEVICE float loadFloat(const void* p, int storage, uint64 i) {
  if (storage == BF16) return toFloat(static_cast<const bf16*>(p)[i]);
  if (storage == I32) return static_cast<float>(static_cast<const int*>(p)[i]);
  return static_cast<const float*>(p)[i];
}
DEVICE void storeFloat(void* p, int storage, uint64 i, float x) {
  if (storage == BF16) static_cast<bf16*>(p)[i] = toBf16(x);
  else if (storage == I32) static_cast<int*>(p)[i] = toInt(x);
  else static_cast<float*>(p)[i] = x;
}

constexpr int MOST_AXES = 6;

/** Sizes of an index, and by how many elements each of `N` arrays goes on along its axes; the last axis runs fastest. */
template <int N>
struct Layout {
  int axes;
  int sizes[MOST_AXES];
  int steps[N][MOST_AXES];
};
using Layout1 = Layout<1>;
using Layout2 = Layout<2>;
using Layout3 = Layout<3>;

/** Adds to `places` where the index `i`, counted along all axes, lies in each array. */
template <int N>
DEVICE void locate(const Layout<N>& layout, uint32 i, long long (&places)[N]) {
  UNROLL
  for (int axis = MOST_AXES - 1; axis >= 0; axis--) {
    if (axis < layout.axes) {
      const uint32 size = static_cast<uint32>(layout.sizes[axis]), at = i % size;
      i /= size;
      UNROLL
      for (int array = 0; array < N; array++) places[array] += static_cast<long long>(at) * layout.steps[array][axis];
    }
  }
}

// Functions that may meet any argument.

constexpr uint32 INFINITE = 0x7f800000u;
DEVICE float infinity() { return __uint_as_float(INFINITE); }
DEVICE float notANumber() { return __uint_as_float(0x7fc00000u); }
DEVICE bool isNaN(float x) { return x != x; }
DEVICE bool isInfinite(float x) { return (__float_as_uint(x) & 0x7fffffffu) == INFINITE; }

/** e^x, with a relative error below 6e-7; 0 where it is below 1.6e-38. */
DEVICE float expOf(float x) {
  if (x < -87.0f) return 0.0f;
  if (x > 88.8f) return infinity();
  const float half = exponential(0.5f * x);
  return x > 88.0f ? half * half : exponential(x);
}

/** ln x */
DEVICE float logOf(float x) {
  if (!(x > 0.0f)) return x == 0.0f ? -infinity() : notANumber();
  return isInfinite(x) ? x : static_cast<float>(logarithm(x));
}

/** ln(1 + x) */
DEVICE float log1pOf(float x) {
  if (!(x > -1.0f)) return x == -1.0f ? -infinity() : notANumber();
  if (isInfinite(x)) return x;
  const double y = x;
  const bool isSmall = y < 1e-3 && y > -1e-3;
  return static_cast<float>(isSmall ? y * (1 - y * (1.0 / 2 - y * (1.0 / 3 - y * (1.0 / 4 - y * (1.0 / 5))))) : logarithm(1 + y));
}

/** e^x in double precision, for |x| ≤ 200: Taylor's series of what is left of x beside a multiple of ln 2. */
DEVICE double expOfDouble(double x) {
  constexpr double LOG2E = 1.44269504088896338700, HIGH = 0.693147180369123816490, LOW = 1.90821492927058770002e-10;
  constexpr double ROUNDING = 6755399441055744.0;
  const double n = (x * LOG2E + ROUNDING) - ROUNDING;
  const double r = (x - n * HIGH) - n * LOW;
  double sum = 1;
  UNROLL
  for (int k = 13; k >= 1; k--) sum = 1 + sum * r / k;
  return sum * __longlong_as_double((static_cast<long long>(n) + 1023) << 52);
}

/** a^b with a rounding more than the nearest float at most, and JavaScript's answers where there is no other. */
DEVICE float powOf(float a, float b) {
  if (b == 0.0f) return 1.0f;
  if (isNaN(a) || isNaN(b)) return notANumber();
  const float size = a < 0.0f ? -a : a;
  if (size == 1.0f && isInfinite(b)) return notANumber();
  const bool isInteger = floorf(b) == b, isOdd = isInteger && fmodf(b, 2.0f) != 0.0f;
  float power;
  if (size == 0.0f || isInfinite(size) || isInfinite(b)) {
    power = (size > 1.0f) == (b > 0.0f) ? infinity() : 0.0f;
  } else {
    double exponent = b * logarithm(size);
    exponent = exponent > 200 ? 200 : exponent < -200 ? -200 : exponent;
    power = static_cast<float>(expOfDouble(exponent));
  }
  if (a < 0.0f && !isInteger && !isInfinite(a)) return notANumber();
  return a < 0.0f && isOdd ? -power : power;
}

/** The remainder with the divisor's sign. */
DEVICE float modOf(float a, float b) {
  const float rest = fmodf(a, b);
  return (a < 0.0f) == (b < 0.0f) ? rest : fmodf(rest + b, b);
}

// Whole numbers, which wrap around as JavaScript's do.

DEVICE int wrapped(uint32 x) { return static_cast<int>(x); }
DEVICE int floorDivOf(int a, int b) {
  if (b == 0) return 0;
  if (b == -1) return wrapped(0u - static_cast<uint32>(a));
  const int quotient = a / b;
  return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}
DEVICE int modOf(int a, int b) {
  if (b == 0 || b == -1) return 0;
  const int rest = a % b;
  return rest != 0 && (a < 0) != (b < 0) ? rest + b : rest;
}
