// Gated feed-forward, y = down(silu(gate x) ⊙ up x), for all tokens with one set of weights or for segments of tokens with
// an expert's weights each. Forward and the gradient of the activations go through all of it for a block of rows at a
// time, so that what lies between the products stays in the cache.
//
// With a limit L > 0, y = down(min(silu(gate x), L) ⊙ clamp(up x, −L, L)); 0 stands for none.
//
// Shapes: N tokens, C channels, F hidden units; gateUp is [2F, C] with the gate's rows first, down is [C, F].

#include <vector>

#include "addon.h"
#include "gemm.h"
#include "parallel.h"

namespace sluice {

/// Rows that go through the feed-forward together: a whole number of tiles, small enough for the second-level cache.
constexpr size_t kRowsTogether = 8 * kTileRows;
/// Most rows of an expert that are one task: large enough for packing its weights to pay.
constexpr size_t kRowsOfTask = 36 * kTileRows;

// (The limit comes first, so that NaN comes out.)
static Vec atMost(float limit, Vec x) { return minimum(broadcast(limit), x); }
static Vec within(float limit, Vec x) { return maximum(broadcast(-limit), atMost(limit, x)); }

/// hidden = min(silu(gate), limit) · clamp(up, ±limit) for one token.
static void activateLimited(const float* gateUp, float* hidden, size_t units, float limit) {
  const float *gate = gateUp, *up = gateUp + units;
  for (size_t i = 0; i < units; i += kWidth) {
    const size_t rest = units - i;
    storeUpTo(hidden + i, atMost(limit, silu(loadUpTo(gate + i, rest))) * within(limit, loadUpTo(up + i, rest)), rest);
  }
}

/// hidden = silu(gate) · up for one token.
static void activate(const float* gateUp, float* hidden, size_t units, float limit) {
  if (limit > 0) return activateLimited(gateUp, hidden, units, limit);
  const float *gate = gateUp, *up = gateUp + units;
  size_t i = 0;
  for (; i + kWidth <= units; i += kWidth) store(hidden + i, silu(load(gate + i)) * load(up + i));
  if (i < units) {
    storePart(hidden + i, silu(loadPart(gate + i, units - i)) * loadPart(up + i, units - i), units - i);
  }
}

struct ActivationGradient {
  Vec gate, up, hidden;
};

// d silu(g) / dg = σ(g)·(1 + g·(1 − σ(g))).
static ActivationGradient activationGradient(Vec gate, Vec up, Vec dHidden) {
  const Vec sigma = sigmoid(gate), value = gate * sigma;
  return {dHidden * up * (sigma * fused(gate, 1.0f - sigma, 1.0f)), dHidden * value, value * up};
}

// Beyond the limit there is no gradient.
static ActivationGradient limitedGradient(Vec gate, Vec up, Vec dHidden, float limit) {
  const Vec sigma = sigmoid(gate), value = gate * sigma;
  const Vec limitedUp = within(limit, up), limitedValue = atMost(limit, value), none = broadcast(0.0f);
  const Vec dGate = dHidden * limitedUp * (sigma * fused(gate, 1.0f - sigma, 1.0f)), dUp = dHidden * limitedValue;
  const Vec most = broadcast(limit);
  return {value > most ? none : dGate, up > most ? none : (up < -most ? none : dUp), limitedValue * limitedUp};
}

static void activateLimitedBackward(float* gateUp, float* hidden, size_t units, float limit) {
  float *gate = gateUp, *up = gateUp + units;
  for (size_t i = 0; i < units; i += kWidth) {
    const size_t rest = units - i;
    const ActivationGradient d =
        limitedGradient(loadUpTo(gate + i, rest), loadUpTo(up + i, rest), loadUpTo(hidden + i, rest), limit);
    storeUpTo(gate + i, d.gate, rest);
    storeUpTo(up + i, d.up, rest);
    storeUpTo(hidden + i, d.hidden, rest);
  }
}

/// Turns the preactivations of one token into their gradients, and the gradient of the hidden units into their values.
static void activateBackward(float* gateUp, float* hidden, size_t units, float limit) {
  if (limit > 0) return activateLimitedBackward(gateUp, hidden, units, limit);
  float *gate = gateUp, *up = gateUp + units;
  size_t i = 0;
  for (; i + kWidth <= units; i += kWidth) {
    const ActivationGradient d = activationGradient(load(gate + i), load(up + i), load(hidden + i));
    store(gate + i, d.gate);
    store(up + i, d.up);
    store(hidden + i, d.hidden);
  }
  if (i < units) {
    const size_t rest = units - i;
    const ActivationGradient d =
        activationGradient(loadPart(gate + i, rest), loadPart(up + i, rest), loadPart(hidden + i, rest));
    storePart(gate + i, d.gate, rest);
    storePart(up + i, d.up, rest);
    storePart(hidden + i, d.hidden, rest);
  }
}

struct Sizes {
  size_t channels, units;
  float limit;
  size_t gateUp() const { return 2 * units * channels; }
  size_t down() const { return units * channels; }
};

/// Calls body(shared, begin, end) for blocks of rows: on one thread each, or for all rows at once with the products shared
/// out, where there are too few rows for that.
template <typename Body>
static void forRowBlocks(bool shared, size_t rows, const Body& body) {
  const size_t threads = shared ? static_cast<size_t>(threadCount()) : 1;
  if (threads > 1 && rows < threads * kTileRows) return body(true, size_t{0}, rows);
  const size_t tiles = (rows + kTileRows - 1) / kTileRows;
  const size_t most = kRowsTogether / kTileRows;
  const size_t blocks = ((tiles + most - 1) / most + threads - 1) / threads * threads;
  const auto block = [&](size_t index) {
    const size_t begin = tiles * index / blocks * kTileRows, end = std::min(rows, tiles * (index + 1) / blocks * kTileRows);
    if (begin < end) body(false, begin, end);
  };
  if (threads > 1) return parallelItems(blocks, block);
  for (size_t index = 0; index < blocks; ++index) block(index);
}

/// Forward for `rows` tokens. @param preactivations [rows, 2F], kept for the gradient, or null
static void forward(bool shared, const float* x, const float* gateUp, const float* down, float* y, float* preactivations,
                    size_t rows, Sizes sizes) {
  const size_t channels = sizes.channels, units = sizes.units;
  const Factor toHidden(shared, transposed(gateUp, channels), 2 * units, channels, rows, 0);
  const Factor toOutput(shared, transposed(down, units), channels, units, rows, 1);
  forRowBlocks(shared, rows, [&](bool sharedProduct, size_t begin, size_t end) {
    static thread_local Scratch hiddenMemory, preactivationMemory;
    const size_t count = end - begin;
    float* hidden = hiddenMemory.floats(count * units);
    float* before = preactivations ? preactivations + begin * 2 * units : preactivationMemory.floats(count * 2 * units);
    toHidden.multiply(sharedProduct, plain(x + begin * channels, channels), 0, before, 2 * units, count);
    for (size_t row = 0; row < count; ++row) activate(before + row * 2 * units, hidden + row * units, units, sizes.limit);
    toOutput.multiply(sharedProduct, plain(hidden, units), 0, y + begin * channels, channels, count);
  });
}

/// Gradient of the activations: `preactivations` become their gradients; `hidden` is filled; dx is written.
static void backward(bool shared, const float* gateUp, const float* down, float* preactivations, const float* dy,
                     float* hidden, float* dx, size_t rows, Sizes sizes) {
  const size_t channels = sizes.channels, units = sizes.units;
  const Factor toInput(shared, plain(gateUp, channels), channels, 2 * units, rows, 0);
  const Factor toHidden(shared, plain(down, units), units, channels, rows, 1);
  forRowBlocks(shared, rows, [&](bool sharedProduct, size_t begin, size_t end) {
    const size_t count = end - begin;
    float *values = hidden + begin * units, *before = preactivations + begin * 2 * units;
    toHidden.multiply(sharedProduct, plain(dy + begin * channels, channels), 0, values, units, count);
    for (size_t row = 0; row < count; ++row) activateBackward(before + row * 2 * units, values + row * units, units, sizes.limit);
    toInput.multiply(sharedProduct, plain(before, 2 * units), 0, dx + begin * channels, channels, count);
  });
}

// ------------------------------------------------------------------------------------------------------ one set of weights

/// gatedFeedForward(x, gateUp, down, y, preactivations | null, N, C, F, limit)
static double gatedFeedForward(const Arguments& args) {
  const size_t rows = args.size(5);
  const Sizes sizes{args.size(6), args.size(7), static_cast<float>(args.number(8))};
  forward(true, args.floats(0, rows * sizes.channels), args.floats(1, sizes.gateUp()), args.floats(2, sizes.down()),
          args.floats(3, rows * sizes.channels), args.optionalFloats(4, rows * 2 * sizes.units), rows, sizes);
  return 0;
}

/// gatedFeedForwardBackward(gateUp, down, preactivations → their gradients, dy, hidden ←, dx ←, N, C, F, limit)
static double gatedFeedForwardBackward(const Arguments& args) {
  const size_t rows = args.size(6);
  const Sizes sizes{args.size(7), args.size(8), static_cast<float>(args.number(9))};
  backward(true, args.floats(0, sizes.gateUp()), args.floats(1, sizes.down()), args.floats(2, rows * 2 * sizes.units),
           args.floats(3, rows * sizes.channels), args.floats(4, rows * sizes.units), args.floats(5, rows * sizes.channels),
           rows, sizes);
  return 0;
}

// ------------------------------------------------------------------------------------------------------------- experts

/// Rows [begin, begin + count) belong to `expert`.
struct Segment {
  size_t expert, begin, count;
};

/// From three lists of whole numbers (arguments first, first + 1, first + 2).
static std::vector<Segment> segmentsOf(const Arguments& args, size_t first, size_t segments, size_t experts, size_t rows) {
  const int32_t *expert = args.integers(first, segments), *begin = args.integers(first + 1, segments);
  const int32_t* count = args.integers(first + 2, segments);
  std::vector<Segment> list;
  for (size_t i = 0; i < segments; ++i) {
    const Segment segment{static_cast<size_t>(expert[i]), static_cast<size_t>(begin[i]), static_cast<size_t>(count[i])};
    if (segment.expert >= experts || segment.begin > rows || segment.count > rows - segment.begin) {
      throw std::runtime_error("segment " + std::to_string(i) + " is outside the rows or the experts");
    }
    if (segment.count > 0) list.push_back(segment);
  }
  return list;
}

static size_t rowsOf(const std::vector<Segment>& segments) {
  size_t rows = 0;
  for (const Segment& segment : segments) rows += segment.count;
  return rows;
}

/// Cuts long segments, so that tasks are of like size. (Rows do not depend on each other.)
static std::vector<Segment> cut(const std::vector<Segment>& segments) {
  std::vector<Segment> tasks;
  for (const Segment& segment : segments) {
    for (size_t row = 0; row < segment.count; row += kRowsOfTask) {
      tasks.push_back({segment.expert, segment.begin + row, std::min(kRowsOfTask, segment.count - row)});
    }
  }
  return tasks;
}

/// expertFeedForward(x, gateUp[E·2F·C], down[E·C·F], y, preactivations | null, M, C, F, E, segments, experts, begins, counts,
/// limit)
static double expertFeedForward(const Arguments& args) {
  const size_t rows = args.size(5), experts = args.size(8);
  const Sizes sizes{args.size(6), args.size(7), static_cast<float>(args.number(13))};
  const float *x = args.floats(0, rows * sizes.channels), *gateUp = args.floats(1, experts * sizes.gateUp());
  const float* down = args.floats(2, experts * sizes.down());
  float *y = args.floats(3, rows * sizes.channels), *preactivations = args.optionalFloats(4, rows * 2 * sizes.units);
  const std::vector<Segment> tasks = cut(segmentsOf(args, 10, args.size(9), experts, rows));
  parallelItems(tasks.size(), [&](size_t index) {
    const auto [expert, begin, count] = tasks[index];
    forward(false, x + begin * sizes.channels, gateUp + expert * sizes.gateUp(), down + expert * sizes.down(),
            y + begin * sizes.channels, preactivations ? preactivations + begin * 2 * sizes.units : nullptr, count, sizes);
  }, rowsOf(tasks) * (sizes.gateUp() + sizes.down()));
  return 0;
}

/// expertFeedForwardBackward(gateUp, down, preactivations → their gradients, dy, hidden ←, dx ←, M, C, F, E, segments,
/// experts, begins, counts, limit)
static double expertFeedForwardBackward(const Arguments& args) {
  const size_t rows = args.size(6), experts = args.size(9);
  const Sizes sizes{args.size(7), args.size(8), static_cast<float>(args.number(14))};
  const float *gateUp = args.floats(0, experts * sizes.gateUp()), *down = args.floats(1, experts * sizes.down());
  float* preactivations = args.floats(2, rows * 2 * sizes.units);
  const float* dy = args.floats(3, rows * sizes.channels);
  float *hidden = args.floats(4, rows * sizes.units), *dx = args.floats(5, rows * sizes.channels);
  const std::vector<Segment> tasks = cut(segmentsOf(args, 11, args.size(10), experts, rows));
  parallelItems(tasks.size(), [&](size_t index) {
    const auto [expert, begin, count] = tasks[index];
    backward(false, gateUp + expert * sizes.gateUp(), down + expert * sizes.down(), preactivations + begin * 2 * sizes.units,
             dy + begin * sizes.channels, hidden + begin * sizes.units, dx + begin * sizes.channels, count, sizes);
  }, rowsOf(tasks) * (sizes.gateUp() + sizes.down()));
  return 0;
}

/// expertWeightGradient(a[M·O], b[M·I], dWeight[E·O·I], M, O, I, E, accumulate, segments, experts, begins, counts):
/// dWeight[e] = (accumulate ? dWeight[e] : 0) + Σ over the expert's rows of a ⊗ b. Every expert at most once.
static double expertWeightGradient(const Arguments& args) {
  const size_t rows = args.size(3), outputs = args.size(4), inputs = args.size(5), experts = args.size(6);
  const float *a = args.floats(0, rows * outputs), *b = args.floats(1, rows * inputs);
  float* dWeight = args.floats(2, experts * outputs * inputs);
  const bool accumulate = args.boolean(7);
  const std::vector<Segment> segments = segmentsOf(args, 9, args.size(8), experts, rows);
  if (!accumulate) {
    std::vector<bool> present(experts, false);
    for (const Segment& segment : segments) present[segment.expert] = true;
    for (size_t e = 0; e < experts; ++e) {
      if (!present[e]) std::fill_n(dWeight + e * outputs * inputs, outputs * inputs, 0.0f);
    }
  }
  if (segments.empty()) return 0;
  // A few tasks for each thread, so that none waits long for the last one.
  const size_t threads = static_cast<size_t>(threadCount());
  const size_t wanted = threads == 1 ? 1 : (threads * 8 + segments.size() - 1) / segments.size();
  const size_t parts = std::max<size_t>(1, std::min(wanted, outputs / (4 * kTileRows)));
  parallelItems(segments.size() * parts, [&](size_t index) {
    const auto [expert, begin, count] = segments[index / parts];
    const size_t tiles = (outputs + kTileRows - 1) / kTileRows, part = index % parts;
    const size_t first = tiles * part / parts * kTileRows, last = std::min(outputs, tiles * (part + 1) / parts * kTileRows);
    multiply(transposed(a + begin * outputs + first, outputs), plain(b + begin * inputs, inputs), accumulate ? 1 : 0,
             dWeight + (expert * outputs + first) * inputs, inputs, last - first, inputs, count);
  }, rowsOf(segments) * outputs * inputs);
  return 0;
}

SLUICE_EXPORT(gatedFeedForward, gatedFeedForward);
SLUICE_EXPORT(gatedFeedForwardBackward, gatedFeedForwardBackward);
SLUICE_EXPORT(expertFeedForward, expertFeedForward);
SLUICE_EXPORT(expertFeedForwardBackward, expertFeedForwardBackward);
SLUICE_EXPORT(expertWeightGradient, expertWeightGradient);

}  // namespace sluice
