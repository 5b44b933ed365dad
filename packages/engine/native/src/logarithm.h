// The natural logarithm in double precision, of our own: the C library's differ from version to version and CPU to CPU.

#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace sluice {

constexpr double kLn2 = 0.693147180559945309417;

/// ln x for x from 0 to infinity, with a relative error below 4e-16 (2e-16 absolute near 1); NaN for others. Denormal x count
/// as 0. With x = m·2^e, m in [√½, √2), and s = (m − 1) / (m + 1): ln x = e·ln 2 + 2·(s + s³/3 + s⁵/5 + …).
inline double logarithm(double x) {
  if (!(x >= std::numeric_limits<double>::min())) {
    return x >= 0 ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  }
  if (x == std::numeric_limits<double>::infinity()) return x;
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  // What is taken off the exponent's bits makes m begin at √½ (rounded).
  const int64_t exponent = static_cast<int64_t>(bits - 0x3fe6a09e667f3bcdULL) >> 52;
  bits -= static_cast<uint64_t>(exponent) << 52;
  double m;
  std::memcpy(&m, &bits, sizeof m);
  const double s = (m - 1) / (m + 1), square = s * s;
  double series = 1.0 / 21;
  for (int n = 19; n >= 3; n -= 2) series = series * square + 1.0 / n;
  // ln 2 in two parts, of which the first has zeros at its end, so that its product with the exponent is exact.
  constexpr double high = 0.693147180369123816490, low = 1.90821492927058770002e-10;
  const double e = static_cast<double>(exponent);
  return e * high + (2 * s + (2 * s * square * series + e * low));
}

}  // namespace sluice
