// RMS norm over the last axis: y = x / sqrt(mean(x²) + ε) · w, forward and backward.

#include <vector>

#include "addon.h"
#include "parallel.h"
#include "simd.h"

namespace sluice {

// Rows whose contributions to the weight's gradient are summed together, before those sums are added in order. It is
// fixed, so that the number of threads does not change the order of the sum.
constexpr size_t kRowsPerPart = 64;

static float meanSquare(const float* x, size_t width) {
  Vec sum = {};
  size_t c = 0;
  for (; c + kWidth <= width; c += kWidth) {
    const Vec v = load(x + c);
    sum += v * v;
  }
  float total = sumLanes(sum);
  for (; c < width; ++c) total += x[c] * x[c];
  return total / static_cast<float>(width);
}

static void forwardRow(const float* x, const float* weight, float* y, size_t width, float inverse) {
  size_t c = 0;
  for (; c + kWidth <= width; c += kWidth) store(y + c, load(x + c) * inverse * load(weight + c));
  for (; c < width; ++c) y[c] = x[c] * inverse * weight[c];
}

// With r = 1/rms and n = x·r:  dx = r · (dy·w − n · mean(dy·w·n)),  dw += dy·n.
static void backwardRow(const float* x, const float* weight, const float* dy, float* dx, float* dWeight, size_t width,
                        float epsilon) {
  const float inverse = 1.0f / std::sqrt(meanSquare(x, width) + epsilon);
  Vec sum = {};
  size_t c = 0;
  for (; c + kWidth <= width; c += kWidth) sum += load(dy + c) * load(weight + c) * load(x + c);
  float dot = sumLanes(sum);
  for (; c < width; ++c) dot += dy[c] * weight[c] * x[c];
  const float pull = dot * inverse * inverse / static_cast<float>(width);
  for (c = 0; c + kWidth <= width; c += kWidth) {
    const Vec gradient = load(dy + c), input = load(x + c);
    store(dWeight + c, load(dWeight + c) + gradient * (input * inverse));
    store(dx + c, inverse * (gradient * load(weight + c) - input * pull));
  }
  for (; c < width; ++c) {
    dWeight[c] += dy[c] * (x[c] * inverse);
    dx[c] = inverse * (dy[c] * weight[c] - x[c] * pull);
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
