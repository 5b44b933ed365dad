// Operations on each element, for itself; with broadcasting, reductions over one block of axes, and copies between layouts.
// They serve TensorFlow.js's own kernels.

#include <cmath>
#include <cstring>
#include <vector>

#include "addon.h"
#include "parallel.h"
#include "softmax.h"
#include "strided.h"

namespace sluice {

struct Add {
  Vec operator()(Vec a, Vec b) const { return a + b; }
};
struct Subtract {
  Vec operator()(Vec a, Vec b) const { return a - b; }
};
struct Multiply {
  Vec operator()(Vec a, Vec b) const { return a * b; }
};
struct Divide {
  Vec operator()(Vec a, Vec b) const { return a / b; }
};

/// `count` elements; a step of 0 repeats one number.
template <typename Operation>
static void applyRun(const float* a, size_t aStep, const float* b, size_t bStep, float* out, size_t count) {
  const Operation operation;
  const auto at = [](const float* p, size_t step, size_t i, size_t lanes) {
    if (step == 0) return broadcast(*p);
    return lanes == kWidth ? load(p + i) : loadPart(p + i, lanes);
  };
  size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(out + i, operation(at(a, aStep, i, kWidth), at(b, bStep, i, kWidth)));
  if (i < count) storePart(out + i, operation(at(a, aStep, i, count - i), at(b, bStep, i, count - i)), count - i);
}

/// add(x[count], y[count], out[count], count): out may be x or y.
static double add(const Arguments& args) {
  const size_t count = args.size(3);
  const float *x = args.floats(0, count), *y = args.floats(1, count);
  float* out = args.floats(2, count);
  parallelFor(count, 1 << 14, [&](size_t begin, size_t end) {
    applyRun<Add>(x + begin, 1, y + begin, 1, out + begin, end - begin);
  });
  return 0;
}

/// name(a, b, out, layout, axes): out is contiguous, a and b have steps of 0 or 1 along the last axis.
template <typename Operation>
static double broadcasting(const Arguments& args) {
  const StridedLoop<3> loop(args, 3);
  const float *a = args.floats(0, loop.extent(0)), *b = args.floats(1, loop.extent(1));
  float* out = args.floats(2, loop.extent(2));
  const size_t aStep = loop.step(0), bStep = loop.step(1);
  if (aStep > 1 || bStep > 1 || loop.step(2) > 1) throw std::runtime_error("the last axis must be contiguous");
  loop.forEachRun([&](const StridedLoop<3>::Offsets& offset, size_t count) {
    applyRun<Operation>(a + offset[0], aStep, b + offset[1], bStep, out + offset[2], count);
  });
  return 0;
}

struct Sigmoid {
  Vec operator()(Vec x) const { return sigmoid(x); }
};
struct HyperbolicTangent {
  Vec operator()(Vec x) const { return hyperbolicTangent(x); }
};
struct Relu {
  // In this order NaN stays NaN.
  Vec operator()(Vec x) const { return maximum(Vec{}, x); }
};
struct Negate {
  Vec operator()(Vec x) const { return -x; }
};
struct Square {
  Vec operator()(Vec x) const { return x * x; }
};
struct SquareRoot {
  Vec operator()(Vec x) const { return squareRoot(x); }
};
struct InverseSquareRoot {
  Vec operator()(Vec x) const { return 1.0f / squareRoot(x); }
};

/// name(x[count], out[count], count)
template <typename Operation>
static double unary(const Arguments& args) {
  const size_t count = args.size(2);
  const float* x = args.floats(0, count);
  float* out = args.floats(1, count);
  const Operation operation;
  parallelFor(count, 1 << 13, [&](size_t begin, size_t end) {
    size_t i = begin;
    for (; i + kWidth <= end; i += kWidth) store(out + i, operation(load(x + i)));
    if (i < end) storePart(out + i, operation(loadPart(x + i, end - i)), end - i);
  });
  return 0;
}

/// copyStrided(source, sourceOffset, target, targetOffset, layout, axes)
static double copyStrided(const Arguments& args) {
  const StridedLoop<2> loop(args, 4);
  const size_t from = args.size(1), to = args.size(3);
  const float* source = args.floats(0, from + loop.extent(0)) + from;
  float* target = args.floats(2, to + loop.extent(1)) + to;
  const size_t sourceStep = loop.step(0), targetStep = loop.step(1);
  loop.forEachRun([&](const StridedLoop<2>::Offsets& offset, size_t count) {
    const float* in = source + offset[0];
    float* out = target + offset[1];
    if (sourceStep == 1 && targetStep == 1) {
      std::memcpy(out, in, count * sizeof(float));
    } else {
      for (size_t i = 0; i < count; ++i) out[i * targetStep] = in[i * sourceStep];
    }
  });
  return 0;
}

// Sums are formed in double precision, as TensorFlow.js does it.
static double sumOfRow(const float* x, size_t count) {
  double lanes[8] = {};
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) lanes[lane] += x[i + lane];
  }
  double total = 0;
  for (const double lane : lanes) total += lane;
  for (; i < count; ++i) total += x[i];
  return total;
}

static void sumOfRows(const float* x, size_t rows, size_t stride, size_t columns, float scale, float* out) {
  constexpr size_t kMost = 64;
  for (size_t first = 0; first < columns; first += kMost) {
    const size_t count = std::min(kMost, columns - first);
    double sums[kMost] = {};
    for (size_t row = 0; row < rows; ++row) {
      const float* values = x + row * stride + first;
      for (size_t c = 0; c < count; ++c) sums[c] += values[c];
    }
    for (size_t c = 0; c < count; ++c) out[first + c] = static_cast<float>(sums[c] * scale);
  }
}

/// sumAxis(x[outer·length·inner], out[outer·inner], outer, length, inner, scale): scale · the sum over the middle axis.
static double sumAxis(const Arguments& args) {
  const size_t outer = args.size(2), length = args.size(3), inner = args.size(4);
  const float scale = static_cast<float>(args.number(5));
  const float* x = args.floats(0, outer * length * inner);
  float* out = args.floats(1, outer * inner);
  const size_t least = 1 + (size_t{1} << 14) / std::max<size_t>(1, length);
  if (inner == 1) {
    parallelFor(outer, least, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) out[i] = static_cast<float>(sumOfRow(x + i * length, length) * scale);
    });
    return 0;
  }
  parallelFor(outer * inner, least, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end;) {
      const size_t column = i % inner, columns = std::min(inner - column, end - i);
      sumOfRows(x + i / inner * length * inner + column, length, inner, columns, scale, out + i);
      i += columns;
    }
  });
  return 0;
}

/// softmax(x[rows·width], out[rows·width], rows, width)
static double softmax(const Arguments& args) {
  const size_t rows = args.size(2), width = args.size(3);
  const float* x = args.floats(0, rows * width);
  float* out = args.floats(1, rows * width);
  parallelFor(rows, 1 + (1 << 12) / std::max<size_t>(1, width), [&](size_t begin, size_t end) {
    std::vector<float> probability(width + kWidth);
    for (size_t row = begin; row < end; ++row) {
      softmaxRow(x + row * width, probability.data(), width);
      std::memcpy(out + row * width, probability.data(), width * sizeof(float));
    }
  });
  return 0;
}

SLUICE_EXPORT(add, add);
SLUICE_EXPORT(broadcastAdd, broadcasting<Add>);
SLUICE_EXPORT(broadcastSubtract, broadcasting<Subtract>);
SLUICE_EXPORT(broadcastMultiply, broadcasting<Multiply>);
SLUICE_EXPORT(broadcastDivide, broadcasting<Divide>);
SLUICE_EXPORT(sigmoid, unary<Sigmoid>);
SLUICE_EXPORT(hyperbolicTangent, unary<HyperbolicTangent>);
SLUICE_EXPORT(relu, unary<Relu>);
SLUICE_EXPORT(negate, unary<Negate>);
SLUICE_EXPORT(square, unary<Square>);
SLUICE_EXPORT(squareRoot, unary<SquareRoot>);
SLUICE_EXPORT(inverseSquareRoot, unary<InverseSquareRoot>);
SLUICE_EXPORT(copyStrided, copyStrided);
SLUICE_EXPORT(sumAxis, sumAxis);
SLUICE_EXPORT(softmax, softmax);

}  // namespace sluice
