// AdamW (Loshchilov & Hutter, 2019) with PyTorch's formula, in one pass over memory.

#include <algorithm>

#include "addon.h"
#include "lanes.h"
#include "parallel.h"

namespace sluice {

struct AdamW {
  float scale, moment1, moment2, decay, stepSize, rootCorrection, epsilon;

  /// @return how far the parameters move, against the sign
  Vec step(Vec& p, Vec g, Vec& m, Vec& v) const {
    g *= scale;
    m = fused(g - m, moment1, m);
    v = fused(g * g - v, moment2, v);
    const Vec direction = m / fused(squareRoot(v), rootCorrection, epsilon);
    const Vec move = fused(direction, stepSize, p * decay);
    p = fused(direction, -stepSize, fused(p, -decay, p));
    return move;
  }
};

/// Zeros in the others, where nothing was loaded and 0/0 may have come of it.
inline Vec firstLanes(Vec v, size_t lanes) {
  if (lanes >= kWidth) return v;
  float values[kWidth];
  store(values, v);
  return loadPart(values, lanes);
}

/// adamW(parameters[count], gradients[count], firstMoment[count], secondMoment[count], sums[2·⌈count / block⌉], count, block,
/// scale, 1 − β1, 1 − β2, learning rate · weight decay, learning rate / (1 − β1^t), 1 / √(1 − β2^t), ε). The sums get, for each
/// block, the squares of how far its parameters moved and of what they were, added up in single precision: what doubles cost
/// would show.
static double adamW(const Arguments& args) {
  const size_t count = args.size(5), block = args.size(6);
  if (block == 0) throw std::runtime_error("a block has an element at least");
  const size_t blocks = (count + block - 1) / block;
  float* parameters = args.floats(0, count);
  const float* gradients = args.floats(1, count);
  float *firsts = args.floats(2, count), *seconds = args.floats(3, count);
  double* sums = args.doubles(4, 2 * blocks);
  const auto scalar = [&](size_t index) { return static_cast<float>(args.number(index)); };
  const AdamW update{scalar(7), scalar(8), scalar(9), scalar(10), scalar(11), scalar(12), scalar(13)};
  parallelFor(blocks, 4, [&](size_t begin, size_t end) {
    for (size_t b = begin; b < end; ++b) {
      const size_t length = std::min(block, count - b * block);
      float *p = parameters + b * block, *m = firsts + b * block, *v = seconds + b * block;
      const float* g = gradients + b * block;
      sums[2 * b + 1] = sumOfLanes<4>(length, [&](Vec sum, size_t i, size_t lanes) {
        const Vec value = loadUpTo(p + i, lanes);
        return fused(value, value, sum);
      });
      sums[2 * b] = sumOfLanes(length, [&](Vec sum, size_t i, size_t lanes) {
        Vec parameter = loadUpTo(p + i, lanes), first = loadUpTo(m + i, lanes), second = loadUpTo(v + i, lanes);
        const Vec move = firstLanes(update.step(parameter, loadUpTo(g + i, lanes), first, second), lanes);
        storeUpTo(p + i, parameter, lanes);
        storeUpTo(m + i, first, lanes);
        storeUpTo(v + i, second, lanes);
        return fused(move, move, sum);
      });
    }
  });
  return 0;
}

SLUICE_EXPORT(adamW, adamW);

}  // namespace sluice
