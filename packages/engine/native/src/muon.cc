// What Muon does to each element, before and after its matrix was orthogonalized: see muon.ts.

#include <algorithm>

#include "addon.h"
#include "parallel.h"
#include "simd.h"
#include "squared_norm.h"

namespace sluice {

constexpr size_t kBlock = 4096;

/// Calls `body(i, lanes)` for each vector of [0, count), shared out among threads.
template <typename Body>
static void forEachVector(size_t count, const Body& body) {
  parallelFor((count + kBlock - 1) / kBlock, 4, [&](size_t begin, size_t end) {
    const size_t last = std::min(count, end * kBlock);
    for (size_t i = begin * kBlock; i < last; i += kWidth) body(i, std::min(kWidth, last - i));
  });
}

/// muonMomentum(gradients, momentum, direction, count, scale, 1 − β): the momentum becomes m + (1 − β)(g − m) for the scaled
/// gradient g; the direction is what Nesterov looks ahead to, g + β(m − g) for the new m.
static double muonMomentum(const Arguments& args) {
  const size_t count = args.size(3);
  const float* gradients = args.floats(0, count);
  float *momentum = args.floats(1, count), *direction = args.floats(2, count);
  const float scale = static_cast<float>(args.number(4)), fresh = static_cast<float>(args.number(5));
  const float beta = static_cast<float>(1 - args.number(5));
  forEachVector(count, [&](size_t i, size_t lanes) {
    const Vec g = loadUpTo(gradients + i, lanes) * scale;
    Vec m = loadUpTo(momentum + i, lanes);
    m = fused(g - m, fresh, m);
    storeUpTo(momentum + i, m, lanes);
    storeUpTo(direction + i, fused(m - g, beta, g), lanes);
  });
  return 0;
}

/// scaleFloats(source, target, count, factor): target = source · factor; they may be the same.
static double scaleFloats(const Arguments& args) {
  const size_t count = args.size(2);
  const float* source = args.floats(0, count);
  float* target = args.floats(1, count);
  const float factor = static_cast<float>(args.number(3));
  forEachVector(count, [&](size_t i, size_t lanes) {
    storeUpTo(target + i, loadUpTo(source + i, lanes) * factor, lanes);
  });
  return 0;
}

/// muonUpdate(parameters[count], direction[count], sums[2·⌈count / block⌉], count, block, decay, step size): parameters shrink by
/// the decay and move against the direction. The sums get, for each block, the squares of how far its parameters moved and of what
/// they were.
static double muonUpdate(const Arguments& args) {
  const size_t count = args.size(3), block = args.size(4);
  if (block == 0 || block > kBlock) throw std::runtime_error("a block has 1 to 4096 elements");
  const size_t blocks = (count + block - 1) / block;
  float* parameters = args.floats(0, count);
  const float* direction = args.floats(1, count);
  double* sums = args.doubles(2, 2 * blocks);
  const float decay = static_cast<float>(args.number(5)), stepSize = static_cast<float>(args.number(6));
  parallelFor(blocks, 4, [&](size_t begin, size_t end) {
    alignas(64) float moves[kBlock];
    for (size_t b = begin; b < end; ++b) {
      const size_t length = std::min(block, count - b * block);
      float* p = parameters + b * block;
      const float* d = direction + b * block;
      sums[2 * b + 1] = squaredNorm(p, length);
      for (size_t i = 0; i < length; i += kWidth) {
        const size_t lanes = std::min(kWidth, length - i);
        const Vec value = loadUpTo(p + i, lanes), along = loadUpTo(d + i, lanes);
        storeUpTo(moves + i, fused(along, stepSize, value * decay), lanes);
        storeUpTo(p + i, fused(along, -stepSize, fused(value, -decay, value)), lanes);
      }
      sums[2 * b] = squaredNorm(moves, length);
    }
  });
  return 0;
}

SLUICE_EXPORT(muonMomentum, muonMomentum);
SLUICE_EXPORT(scaleFloats, scaleFloats);
SLUICE_EXPORT(muonUpdate, muonUpdate);

}  // namespace sluice
