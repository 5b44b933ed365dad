// Causal depthwise convolution over the last few tokens, forward and backward: z[t] = Σ_i w[K−1−i]·x[t−i], and y = z or silu(z).
// Rows before a document's first count as zeros.

#include <vector>

#include "addon.h"
#include "documents.h"
#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace sluice {

namespace {

// Rows whose contributions to the weights' gradient are summed together, before those sums are added in order. It is fixed, so
// that the number of threads does not change the order of the sum.
constexpr size_t kRowsPerPart = 64;
/// Channels that the backward pass treats together: those of a part, with their gradients, fit in the first-level cache.
constexpr size_t kStrip = 64;

struct Convolution {
  Documents documents;
  size_t channels, taps;
  bool isSilu;
  const float *x, *weights;  // weights: [K][C]

  size_t rows() const { return documents.tokens(); }
  size_t parts() const { return (rows() + kRowsPerPart - 1) / kRowsPerPart; }

  /// z of channels from `c` on, before the activation. @param position of the row in its document
  Vec before(size_t row, size_t position, size_t c) const {
    const size_t seen = std::min(taps, position + 1), lanes = channels - c;
    Vec sum = {};
    for (size_t tap = taps - seen; tap < taps; ++tap) {
      const float* input = x + (row + tap + 1 - taps) * channels;
      sum = fused(loadUpTo(input + c, lanes), loadUpTo(weights + tap * channels + c, lanes), sum);
    }
    return sum;
  }
};

/// The weights as they are kept, [C][K], turned so that neighbouring channels lie side by side.
const float* turned(const float* weights, size_t channels, size_t taps) {
  static thread_local Scratch memory;
  float* to = memory.floats(taps * channels);
  for (size_t c = 0; c < channels; ++c) {
    for (size_t tap = 0; tap < taps; ++tap) to[tap * channels + c] = weights[c * taps + tap];
  }
  return to;
}

/// shortConvolution(x[N·C], weights[C·K], y[N·C], starts[documents + 1], documents, C, K, isSilu)
double shortConvolution(const Arguments& args) {
  const Documents documents(args, 3);
  const size_t channels = args.size(5), taps = args.size(6), count = documents.tokens() * channels;
  const Convolution f{documents, channels, taps, args.boolean(7), args.floats(0, count),
                      turned(args.floats(1, channels * taps), channels, taps)};
  float* y = args.floats(2, count);
  parallelFor(f.rows(), 16, [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) {
      const size_t position = documents.position(row);
      for (size_t c = 0; c < channels; c += kWidth) {
        const Vec z = f.before(row, position, c);
        storeUpTo(y + row * channels + c, f.isSilu ? silu(z) : z, channels - c);
      }
    }
  });
  return 0;
}

/// The gradient of z of one row and some channels, which is that of y where there is no activation.
Vec gradientBefore(const Convolution& f, const float* dy, size_t row, size_t position, size_t c) {
  const Vec gradient = loadUpTo(dy + row * f.channels + c, f.channels - c);
  if (!f.isSilu) return gradient;
  const Vec z = f.before(row, position, c), s = sigmoid(z);
  return gradient * (s * fused(z, 1.0f - s, 1.0f));
}

/// dx of the rows of one part, and its share of the weights' gradient, for the channels of one strip.
/// @param dz room for the gradients of the part's rows and of those after it that see them, [64 + K − 1][kStrip]
void differentiate(const Convolution& f, const float* dy, size_t begin, size_t end, size_t strip, float* dz, float* dx,
                   float* dWeights) {
  const size_t last = std::min(strip + kStrip, f.channels), ahead = f.taps - 1, until = std::min(f.rows(), end + ahead);
  for (size_t row = begin; row < until; ++row) {
    const size_t position = f.documents.position(row);
    for (size_t c = strip; c < last; c += kWidth) {
      store(dz + (row - begin) * kStrip + c - strip, gradientBefore(f, dy, row, position, c));
    }
  }
  for (size_t row = begin; row < end; ++row) {
    const size_t position = f.documents.position(row), seen = std::min(f.taps, position + 1);
    // A row is seen from those after it of the same document.
    size_t seenFrom = 1;
    while (seenFrom < f.taps && row + seenFrom < f.rows() && f.documents.position(row + seenFrom) == position + seenFrom) {
      ++seenFrom;
    }
    for (size_t c = strip; c < last; c += kWidth) {
      const size_t lanes = f.channels - c;
      const float* own = dz + (row - begin) * kStrip + c - strip;
      Vec sum = {};
      for (size_t i = 0; i < seenFrom; ++i) {
        sum = fused(load(own + i * kStrip), loadUpTo(f.weights + (f.taps - 1 - i) * f.channels + c, lanes), sum);
      }
      storeUpTo(dx + row * f.channels + c, sum, lanes);
      const Vec gradient = load(own);
      for (size_t i = 0; i < seen; ++i) {
        float* place = dWeights + (f.taps - 1 - i) * f.channels + c;
        storeUpTo(place, fused(gradient, loadUpTo(f.x + (row - i) * f.channels + c, lanes), loadUpTo(place, lanes)), lanes);
      }
    }
  }
}

/// shortConvolutionBackward(x, weights, dy, dx[N·C], dWeights[C·K], starts[documents + 1], documents, C, K, isSilu, accumulate)
double shortConvolutionBackward(const Arguments& args) {
  const Documents documents(args, 5);
  const size_t channels = args.size(7), taps = args.size(8), count = documents.tokens() * channels;
  const Convolution f{documents, channels, taps, args.boolean(9), args.floats(0, count),
                      turned(args.floats(1, channels * taps), channels, taps)};
  const float* dy = args.floats(2, count);
  float *dx = args.floats(3, count), *dWeights = args.floats(4, channels * taps);
  const bool accumulate = args.boolean(10);
  std::vector<float> partial(f.parts() * taps * channels, 0.0f);
  parallelFor(f.parts(), 1, [&](size_t first, size_t last) {
    static thread_local Scratch memory;
    float* dz = memory.floats((kRowsPerPart + taps) * kStrip);
    for (size_t part = first; part < last; ++part) {
      const size_t begin = part * kRowsPerPart, end = std::min(f.rows(), begin + kRowsPerPart);
      for (size_t strip = 0; strip < channels; strip += kStrip) {
        differentiate(f, dy, begin, end, strip, dz, dx, partial.data() + part * taps * channels);
      }
    }
  });
  for (size_t c = 0; c < channels; ++c) {
    for (size_t tap = 0; tap < taps; ++tap) {
      float sum = 0;
      for (size_t part = 0; part < f.parts(); ++part) sum += partial[(part * taps + tap) * channels + c];
      float& to = dWeights[c * taps + tap];
      to = accumulate ? to + sum : sum;
    }
  }
  return 0;
}

SLUICE_EXPORT(shortConvolution, shortConvolution);
SLUICE_EXPORT(shortConvolutionBackward, shortConvolutionBackward);

}  // namespace

}  // namespace sluice
