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

/// Lanes of a vector that are channels: all of them, or the last few.
struct AllLanes {
  Vec load(const float* p) const { return sluice::load(p); }
  void store(float* p, Vec v) const { sluice::store(p, v); }
};
struct SomeLanes {
  size_t count;
  Vec load(const float* p) const { return loadPart(p, count); }
  void store(float* p, Vec v) const { storePart(p, v, count); }
};

/// Calls `body(channel, lanes)` for each vector of the channels from `begin` to `end`.
template <typename Body>
inline void forVectors(size_t begin, size_t end, const Body& body) {
  size_t c = begin;
  for (; c + kWidth <= end; c += kWidth) body(c, AllLanes{});
  if (c < end) body(c, SomeLanes{end - c});
}

struct Convolution {
  Documents documents;
  size_t channels, taps;
  bool isSilu;
  const float *x, *weights;  // weights: [K][C], and room for a whole vector

  size_t rows() const { return documents.tokens(); }
  size_t parts() const { return (rows() + kRowsPerPart - 1) / kRowsPerPart; }
  /// How many of the row and those before it are of its document, at most K.
  size_t seen(size_t row) const { return std::min(taps, documents.position(row) + 1); }

  /// z, before the activation, of channels from `c` on. @param seen of the row
  template <typename Lanes>
  Vec before(size_t row, size_t seen, size_t c, const Lanes& lanes) const {
    const float *input = x + (row + 1 - seen) * channels + c, *weight = weights + (taps - seen) * channels + c;
    Vec sum = {};
    for (size_t i = 0; i < seen; ++i) sum = fused(lanes.load(input + i * channels), load(weight + i * channels), sum);
    return sum;
  }
};

/// The weights as they are kept, [C][K], turned so that neighbouring channels lie side by side.
const float* turned(const float* weights, size_t channels, size_t taps) {
  static thread_local Scratch memory;
  float* to = memory.floats(taps * channels + kWidth);
  for (size_t c = 0; c < channels; ++c) {
    for (size_t tap = 0; tap < taps; ++tap) to[tap * channels + c] = weights[c * taps + tap];
  }
  std::fill(to + taps * channels, to + taps * channels + kWidth, 0.0f);
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
      const size_t seen = f.seen(row);
      forVectors(0, channels, [&](size_t c, const auto& lanes) {
        const Vec z = f.before(row, seen, c, lanes);
        lanes.store(y + row * channels + c, f.isSilu ? silu(z) : z);
      });
    }
  });
  return 0;
}

/// Rows whose gradients are computed together, and how far they see.
struct Part {
  size_t begin, end;  // rows whose dx it computes
  size_t until;       // the end of those that see some of them
  std::vector<size_t> seen, seenFrom;  // of each row, how many rows up to it, and from it on, are in sight, at most K

  void set(const Convolution& f, size_t index) {
    begin = index * kRowsPerPart, end = std::min(f.rows(), begin + kRowsPerPart);
    until = std::min(f.rows(), end + f.taps - 1);
    seen.resize(until - begin), seenFrom.assign(until - begin, 1);
    for (size_t row = 0; row < seen.size(); ++row) {
      seen[row] = f.seen(begin + row);
      for (size_t i = 1; i < std::min(row + 1, seen[row]); ++i) seenFrom[row - i] = i + 1;
    }
  }
};

/// dx of a part, and its share of the weights' gradient, for the channels of one strip.
/// @param dz room for the gradients of z, [64 + K][kStrip]
void differentiate(const Convolution& f, const Part& part, const float* dy, size_t strip, float* dz, float* dx,
                   float* dWeights) {
  const size_t channels = f.channels, last = std::min(strip + kStrip, channels), rows = part.end - part.begin;
  for (size_t row = part.begin; row < part.until; ++row) {
    forVectors(strip, last, [&](size_t c, const auto& lanes) {
      Vec gradient = lanes.load(dy + row * channels + c);
      if (f.isSilu) {
        const Vec z = f.before(row, part.seen[row - part.begin], c, lanes), s = sigmoid(z);
        gradient *= s * fused(z, 1.0f - s, 1.0f);
      }
      store(dz + (row - part.begin) * kStrip + c - strip, gradient);
    });
  }
  for (size_t row = 0; row < rows; ++row) {
    forVectors(strip, last, [&](size_t c, const auto& lanes) {
      const float *own = dz + row * kStrip + c - strip, *weight = f.weights + (f.taps - 1) * channels + c;
      Vec sum = {};
      for (size_t i = 0; i < part.seenFrom[row]; ++i) sum = fused(load(own + i * kStrip), load(weight - i * channels), sum);
      lanes.store(dx + (part.begin + row) * channels + c, sum);
    });
  }
  for (size_t i = 0; i < f.taps; ++i) {
    forVectors(strip, last, [&](size_t c, const auto& lanes) {
      Vec sum = {};
      for (size_t row = 0; row < rows; ++row) {
        if (part.seen[row] <= i) continue;
        sum = fused(load(dz + row * kStrip + c - strip), lanes.load(f.x + (part.begin + row - i) * channels + c), sum);
      }
      lanes.store(dWeights + (f.taps - 1 - i) * channels + c, sum);
    });
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
  std::vector<float> partial(f.parts() * taps * channels);
  parallelFor(f.parts(), 1, [&](size_t first, size_t last) {
    static thread_local Scratch memory;
    float* dz = memory.floats((kRowsPerPart + taps) * kStrip);
    Part part;
    for (size_t index = first; index < last; ++index) {
      part.set(f, index);
      for (size_t strip = 0; strip < channels; strip += kStrip) {
        differentiate(f, part, dy, strip, dz, dx, partial.data() + index * taps * channels);
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
