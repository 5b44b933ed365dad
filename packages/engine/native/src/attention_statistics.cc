// What the weights of causal attention look like, without building them: see attentionStatistics.ts.

#include "addon.h"
#include "attention_tiles.h"
#include "logarithm.h"

namespace sluice::attention {

namespace {

// Numbers of one head of one document.
constexpr size_t kFirstToken = 0, kFirstQuery = 1, kLargest = 2, kEntropy = 3, kNumbers = 4;

struct Statistics {
  Shape shape;
  const float *q, *k;
  /// One score for each head, or null.
  const float* sinks;
  double* numbers;
};

/// Adds the numbers of the `count` queries from `position` on. `scores` [keys][32], in base 2, hold garbage after the
/// query's own token.
void addPanel(const Statistics& s, size_t head, size_t position, size_t keys, size_t count, float* scores, double* numbers) {
  const float ln2 = static_cast<float>(kLn2), sink = s.sinks == nullptr ? -INFINITY : s.sinks[head] / ln2;
  hideUnseen(scores, keys, -static_cast<ptrdiff_t>(position), s.shape.window);
  alignas(64) float largest[kLanes], total[kLanes], spread[kLanes], first[kLanes];
  for (size_t lane = 0; lane < kLanes; lane += kWidth) {
    Vec highest = broadcast(-INFINITY);
    for (size_t key = 0; key < keys; ++key) highest = maximum(load(scores + key * kLanes + lane), highest);
    store(largest + lane, highest);
    highest = maximum(highest, broadcast(sink));
    // Σ 2^(x − highest), and Σ 2^(x − highest) · (x − highest); what a query does not see adds to neither.
    const Vec none = {};
    const auto weigh = [&](Vec shifted, Vec& weight) {
      weight = exponential2(shifted);
      return weight == none ? none : weight * shifted;
    };
    Vec sum = {}, moment = {}, weight;
    if (s.sinks != nullptr) {
      moment = weigh(broadcast(sink) - highest, weight);
      sum = weight;
    }
    store(first + lane, exponential2(load(scores + lane) - highest));
    for (size_t key = 0; key < keys; ++key) {
      moment += weigh(load(scores + key * kLanes + lane) - highest, weight);
      sum += weight;
    }
    store(total + lane, sum);
    store(spread + lane, moment);
  }
  for (size_t i = 0; i < count; ++i) {
    const double all = total[i], weight = first[i] / all;
    // NaN is passed on; comparisons would lose it.
    const double logit = std::isnan(all) ? NAN : static_cast<double>(largest[i]) * ln2;
    numbers[position + i == 0 ? kFirstQuery : kFirstToken] += weight;
    if (std::isnan(logit) || logit > numbers[kLargest]) numbers[kLargest] = logit;
    numbers[kEntropy] += logarithm(all) - spread[i] / all * ln2;
  }
}

void computeItem(const Statistics& s, const Item& item) {
  static thread_local Scratch scratch;
  const Shape& shape = s.shape;
  const size_t channels = shape.channels(), width = shape.heads * shape.headDim, panelSize = channels * kLanes;
  const size_t rows = roundUp(item.length, kKeyBlock);
  float* keys = scratch.floats(PackedKeys::size(shape) + 2 * panelSize + rows * kLanes);
  float *panel = keys + PackedKeys::size(shape), *queries = panel + panelSize, *scores = queries + panelSize;
  PackedKeys(shape, s.k).pack(item, keys);
  const float scale = scoreScale(shape);
  for (size_t head = item.firstHead; head < item.firstHead + shape.group(); ++head) {
    double* numbers = s.numbers + (item.document * shape.heads + head) * kNumbers;
    std::fill(numbers, numbers + kNumbers, 0.0);
    numbers[kLargest] = -INFINITY;
    for (size_t position = 0; position < item.length; position += kLanes) {
      const size_t count = std::min(kLanes, item.length - position), visible = std::min(position + kLanes, rows);
      const float* q = s.q + (item.firstRow + position) * width + head * shape.headDim;
      copyRows(q, width, count, shape.headDim, queries, kLanes, channels);
      transposeBlock(queries, kLanes, channels, panel);
      for (size_t i = 0; i < panelSize; i += kWidth) store(panel + i, load(panel + i) * scale);
      multiplyRows(keys, panel, visible, channels, scores);
      addPanel(s, head, position, visible, count, scores, numbers);
    }
  }
}

/// attentionStatistics(q[N·H·D], k[N·K·D], sinks[H] | null, numbers[documents·H·4], starts[documents + 1], documents, H, K, D,
///                     window | 0)
double attentionStatistics(const Arguments& args) {
  Statistics s{};
  s.shape = {Documents(args, 4), args.size(6), args.size(7), args.size(8), windowOf(args, 9)};
  const Shape& shape = s.shape;
  s.q = args.floats(0, shape.tokens() * shape.heads * shape.headDim);
  s.k = args.floats(1, shape.tokens() * shape.keyValueHeads * shape.headDim);
  s.sinks = args.optionalFloats(2, shape.heads);
  s.numbers = args.doubles(3, shape.documents.count() * shape.heads * kNumbers);
  parallelItems(shape.items(), [&](size_t item) { computeItem(s, Item(shape, item)); });
  return 0;
}

SLUICE_EXPORT(attentionStatistics, attentionStatistics);

}  // namespace

}  // namespace sluice::attention
