// RMS norm over the last axis: y = x / sqrt(mean(x²) + ε) · w, forward and backward.

#include <vector>

#include "addon.h"
#include "lanes.h"
#include "parallel.h"

namespace sluice {

// Rows whose contributions to the weight's gradient are summed together, before those sums are added in order. It is
// fixed, so that the number of threads does not change the order of the sum.
constexpr size_t kRowsPerPart = 64;

static float meanSquare(const float* x, size_t width) {
  const float sum = sumOfLanes(width, [x](Vec sum, size_t c, size_t lanes) {
    const Vec v = loadUpTo(x + c, lanes);
    return fused(v, v, sum);
  });
  return sum / static_cast<float>(width);
}

static void forwardRow(const float* x, const float* weight, float* y, size_t width, float inverse) {
  for (size_t c = 0; c < width; c += kWidth) {
    const size_t rest = width - c;
    storeUpTo(y + c, loadUpTo(x + c, rest) * inverse * loadUpTo(weight + c, rest), rest);
  }
}

// With r = 1/rms and n = x·r:  dx = r · (dy·w − n · mean(dy·w·n)),  dw += dy·n.
static void backwardRow(const float* x, const float* weight, const float* dy, float* dx, float* dWeight, size_t width,
                        float epsilon) {
  const float inverse = 1.0f / std::sqrt(meanSquare(x, width) + epsilon);
  const float dot = sumOfLanes(width, [&](Vec sum, size_t c, size_t lanes) {
    return fused(loadUpTo(dy + c, lanes) * loadUpTo(weight + c, lanes), loadUpTo(x + c, lanes), sum);
  });
  const float pull = dot * inverse * inverse / static_cast<float>(width);
  for (size_t c = 0; c < width; c += kWidth) {
    const size_t rest = width - c;
    const Vec gradient = loadUpTo(dy + c, rest), input = loadUpTo(x + c, rest);
    storeUpTo(dWeight + c, fused(gradient, input * inverse, loadUpTo(dWeight + c, rest)), rest);
    storeUpTo(dx + c, inverse * fused(gradient, loadUpTo(weight + c, rest), -(input * pull)), rest);
  }
}

/// rmsNorm(x[rows·width], weight[width], y[rows·width], rows, width, epsilon)
static double rmsNorm(const Arguments& args) {
  const size_t rows = args.size(3), width = args.size(4);
  const float epsilon = static_cast<float>(args.number(5));
  const float *x = args.floats(0, rows * width), *weight = args.floats(1, width);
  float* y = args.floats(2, rows * width);
  parallelFor(rows, 16, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const float inverse = 1.0f / std::sqrt(meanSquare(x + row * width, width) + epsilon);
      forwardRow(x + row * width, weight, y + row * width, width, inverse);
    }
  });
  return 0;
}

/// rmsNormBackward(x, weight, dy, dx, dWeight[width], rows, width, epsilon, accumulate): dx may be dy.
static double rmsNormBackward(const Arguments& args) {
  const size_t rows = args.size(5), width = args.size(6);
  const float epsilon = static_cast<float>(args.number(7));
  const bool accumulate = args.boolean(8);
  const float *x = args.floats(0, rows * width), *weight = args.floats(1, width), *dy = args.floats(2, rows * width);
  float *dx = args.floats(3, rows * width), *dWeight = args.floats(4, width);
  const size_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  std::vector<float> partial(parts * width, 0.0f);
  parallelFor(parts, 1, [&](size_t begin, size_t end) {
    for (size_t row = begin * kRowsPerPart; row < std::min(rows, end * kRowsPerPart); ++row) {
      backwardRow(x + row * width, weight, dy + row * width, dx + row * width,
                  partial.data() + row / kRowsPerPart * width, width, epsilon);
    }
  });
  for (size_t c = 0; c < width; ++c) {
    float sum = 0;
    for (size_t part = 0; part < parts; ++part) sum += partial[part * width + c];
    dWeight[c] = accumulate ? dWeight[c] + sum : sum;
  }
  return 0;
}

SLUICE_EXPORT(rmsNorm, rmsNorm);
SLUICE_EXPORT(rmsNormBackward, rmsNormBackward);

}  // namespace sluice
