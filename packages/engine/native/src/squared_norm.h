// Sums of squares in double precision, in an order that no vector width changes.

#pragma once

#include <cstddef>
#include <cstring>

namespace sluice {

typedef float Floats8 __attribute__((vector_size(8 * sizeof(float))));
typedef double Doubles8 __attribute__((vector_size(8 * sizeof(double))));

inline Doubles8 squares(const float* x) {
  Floats8 v;
  std::memcpy(&v, x, sizeof v);
  const Doubles8 wide = __builtin_convertvector(v, Doubles8);
  return wide * wide;
}

/// Sum of squares in 32 interleaved double-precision sums, whatever the machine's vectors.
inline double squaredNorm(const float* x, size_t count) {
  Doubles8 sum[4] = {};
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    for (size_t j = 0; j < 4; ++j) sum[j] += squares(x + i + 8 * j);
  }
  const Doubles8 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  double total = 0;
  for (size_t lane = 0; lane < 8; ++lane) total += all[lane];
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

}  // namespace sluice
