// Operations on each element, for itself.

#include "addon.h"
#include "parallel.h"
#include "simd.h"

namespace sluice {

/// add(x[count], y[count], out[count], count): out may be x or y.
static double add(const Arguments& args) {
  const size_t count = args.size(3);
  const float *x = args.floats(0, count), *y = args.floats(1, count);
  float* out = args.floats(2, count);
  parallelFor(count, 1 << 14, [&](size_t begin, size_t end) {
    size_t i = begin;
    for (; i + kWidth <= end; i += kWidth) store(out + i, load(x + i) + load(y + i));
    for (; i < end; ++i) out[i] = x[i] + y[i];
  });
  return 0;
}

SLUICE_EXPORT(add, add);

}  // namespace sluice
