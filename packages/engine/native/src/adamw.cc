// AdamW (Loshchilov & Hutter, 2019) with PyTorch's formula, in one pass over memory.

#include "addon.h"
#include "parallel.h"
#include "simd.h"

namespace sluice {

constexpr size_t kBlock = 4096;

struct AdamW {
  float scale, moment1, moment2, decay, stepSize, rootCorrection, epsilon;

  void step(Vec& p, Vec g, Vec& m, Vec& v) const {
    g *= scale;
    m = fused(g - m, moment1, m);
    v = fused(g * g - v, moment2, v);
    const Vec denominator = fused(squareRoot(v), rootCorrection, epsilon);
    p = fused(p, -decay, p);
    p = fused(m / denominator, -stepSize, p);
  }
};

/// adamW(parameters, gradients, firstMoment, secondMoment, count, scale, 1 − β1, 1 − β2, learning rate · weight decay,
/// learning rate / (1 − β1^t), 1 / √(1 − β2^t), ε)
static double adamW(const Arguments& args) {
  const size_t count = args.size(4);
  float* p = args.floats(0, count);
  const float* g = args.floats(1, count);
  float *m = args.floats(2, count), *v = args.floats(3, count);
  const auto scalar = [&](size_t index) { return static_cast<float>(args.number(index)); };
  const AdamW update{scalar(5), scalar(6), scalar(7), scalar(8), scalar(9), scalar(10), scalar(11)};
  parallelFor((count + kBlock - 1) / kBlock, 4, [&](size_t begin, size_t end) {
    const size_t last = std::min(count, end * kBlock);
    for (size_t i = begin * kBlock; i < last; i += kWidth) {
      const size_t lanes = std::min(kWidth, last - i);
      const bool whole = lanes == kWidth;
      Vec parameter = whole ? load(p + i) : loadPart(p + i, lanes);
      Vec first = whole ? load(m + i) : loadPart(m + i, lanes);
      Vec second = whole ? load(v + i) : loadPart(v + i, lanes);
      update.step(parameter, whole ? load(g + i) : loadPart(g + i, lanes), first, second);
      if (whole) {
        store(p + i, parameter);
        store(m + i, first);
        store(v + i, second);
      } else {
        storePart(p + i, parameter, lanes);
        storePart(m + i, first, lanes);
        storePart(v + i, second, lanes);
      }
    }
  });
  return 0;
}

SLUICE_EXPORT(adamW, adamW);

}  // namespace sluice
