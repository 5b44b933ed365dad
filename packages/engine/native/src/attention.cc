// Gated causal attention, forward: y = softmax(q·kᵀ/√D)·v ⊙ sigmoid(gate), block by block with a running maximum and sum
// (Milakov & Gimelshein 2018; Dao et al. 2022), so that no T × T matrix exists.

#include <limits>

#include "addon.h"
#include "attention_tiles.h"
#include "logarithm.h"

namespace sluice::attention {

namespace {

/// What a panel carries from key block to key block.
struct Panel {
  float *queries, *sums;              // [channels][32]: q·scale, and Σ weights·v so far
  float *highest, *total, *rescale;   // [32]: largest score, Σ weights, factor for what was summed before this block
};

struct Forward {
  Shape shape;
  const float *q, *k, *v, *gate;
  bool headwise;
  float *y, *logSumExp;
  float* highest;           // [H·N], each query's largest score in base 2, or null
  float* packed = nullptr;  // [slots][2: keys, values][T][channels]
  size_t packedSize = 0;    // of one of the two

  float* keysOf(size_t slot) const { return packed + 2 * slot * packedSize; }
  float* valuesOf(size_t slot) const { return keysOf(slot) + packedSize; }
};

/// Turns a block of scores into weights relative to the largest score so far.
void weigh(float* scores, size_t keys, ptrdiff_t ahead, size_t window, Panel& panel) {
  hideUnseen(scores, keys, ahead, window);
  constexpr size_t kVectorsOfRow = kLanes / kWidth;
  Vec largest[kVectorsOfRow];
  for (size_t i = 0; i < kVectorsOfRow; ++i) largest[i] = load(panel.highest + i * kWidth);
  for (size_t key = 0; key < keys; ++key) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kVectorsOfRow; ++i) {
      largest[i] = maximum(load(scores + key * kLanes + i * kWidth), largest[i]);
    }
  }
  for (size_t i = 0; i < kVectorsOfRow; ++i) {
    const size_t lane = i * kWidth;
    const Vec highest = largest[i], before = load(panel.highest + lane);
    const Vec rescale = exponential2(before - highest);
    Vec total = load(panel.total + lane) * rescale;
    for (size_t key = 0; key < keys; ++key) {
      float* score = scores + key * kLanes + lane;
      const Vec weight = exponential2(load(score) - highest);
      store(score, weight);
      total += weight;
    }
    store(panel.highest + lane, highest);
    store(panel.rescale + lane, rescale);
    store(panel.total + lane, total);
  }
}

void begin(const Forward& f, size_t token, size_t head, size_t count, Panel& panel, float* rows) {
  const size_t channels = f.shape.channels(), width = f.shape.heads * f.shape.headDim;
  copyRows(f.q + token * width + head * f.shape.headDim, width, count, f.shape.headDim, rows, kLanes, channels);
  transposeBlock(rows, kLanes, channels, panel.queries);
  const float scale = scoreScale(f.shape);
  for (size_t i = 0; i < channels * kLanes; i += kWidth) store(panel.queries + i, load(panel.queries + i) * scale);
  std::fill(panel.sums, panel.sums + channels * kLanes, 0.0f);
  // In a window a query may see nothing of the panel's first keys, and −∞ − (−∞) is no number.
  const float lowest = f.shape.window == kNoWindow ? -INFINITY : std::numeric_limits<float>::lowest();
  std::fill(panel.highest, panel.highest + kLanes, lowest);
  std::fill(panel.total, panel.total + kLanes, 0.0f);
}

/// rows[32][channels] ⊙ sigmoid(gate), for `count` queries. @param gates [32][channels], overwritten
void applyGate(const Forward& f, size_t token, size_t head, size_t count, float* rows, float* gates) {
  const size_t channels = f.shape.channels(), headDim = f.shape.headDim, heads = f.shape.heads;
  if (f.headwise) {
    for (size_t i = 0; i < count; ++i) std::fill_n(gates + i * channels, channels, f.gate[(token + i) * heads + head]);
  } else {
    copyRows(f.gate + (token * heads + head) * headDim, heads * headDim, count, headDim, gates, kLanes, channels);
  }
  for (size_t i = 0; i < count * channels; i += kWidth) store(rows + i, load(rows + i) * sigmoid(load(gates + i)));
}

void finish(const Forward& f, size_t token, size_t head, size_t count, Panel& panel, float* rows) {
  const size_t channels = f.shape.channels(), headDim = f.shape.headDim, width = f.shape.heads * headDim;
  for (size_t lane = 0; lane < kLanes; lane += kWidth) {
    const Vec inverse = 1.0f / load(panel.total + lane);
    for (size_t c = 0; c < channels; ++c) {
      float* sum = panel.sums + c * kLanes + lane;
      store(sum, load(sum) * inverse);
    }
  }
  transposeBlock(panel.sums, channels, kLanes, rows);
  if (f.gate != nullptr) applyGate(f, token, head, count, rows, panel.sums);
  copyBack(rows, channels, count, headDim, f.y + token * width + head * headDim, width);
}

void computeBlock(const Forward& f, const Item& item, size_t block, size_t slot) {
  static thread_local Scratch scratch;
  const Shape& shape = f.shape;
  const size_t channels = shape.channels(), panelSize = channels * kLanes, stateSize = 2 * panelSize + 3 * kLanes;
  float* scores = scratch.floats(kKeyBlock * kLanes + panelSize + shape.panels() * stateSize);
  float *rows = scores + kKeyBlock * kLanes, *states = rows + panelSize;
  const size_t firstPosition = block * shape.queriesPerBlock();

  // Panels that begin after the document's end have nothing to do.
  const size_t perHead = std::min(shape.panelsPerHead(), (item.length - firstPosition + kLanes - 1) / kLanes);
  const auto forEachPanel = [&](const auto& body) {
    for (size_t p = 0; p < shape.group() * perHead; ++p) {
      float* state = states + p * stateSize;
      float* small = state + 2 * panelSize;
      Panel panel{state, state + panelSize, small, small + kLanes, small + 2 * kLanes};
      body(panel, item.firstHead + p / perHead, firstPosition + p % perHead * kLanes);
    }
  };
  const auto countAt = [&](size_t position) { return std::min(kLanes, item.length - position); };

  forEachPanel([&](Panel& panel, size_t head, size_t position) {
    begin(f, item.firstRow + position, head, countAt(position), panel, rows);
  });
  const size_t end = std::min(firstPosition + perHead * kLanes, item.length);
  for (size_t blockKey = shape.firstKeyBlock(block) * kKeyBlock; blockKey < end; blockKey += kKeyBlock) {
    forEachPanel([&](Panel& panel, size_t, size_t position) {
      const size_t firstKey = blockKey + shape.skipped(position, blockKey);
      if (firstKey >= std::min(position + kLanes, blockKey + kKeyBlock)) return;
      const size_t keys = std::min(blockKey + kKeyBlock, position + kLanes) - firstKey;
      const ptrdiff_t ahead = static_cast<ptrdiff_t>(firstKey) - static_cast<ptrdiff_t>(position);
      multiplyRows(f.keysOf(slot) + firstKey * channels, panel.queries, keys, channels, scores);
      weigh(scores, keys, ahead, shape.window, panel);
      addWeightedRows(f.valuesOf(slot) + firstKey * channels, scores, keys, channels, panel.rescale, panel.sums);
    });
  }
  forEachPanel([&](Panel& panel, size_t head, size_t position) {
    if (f.highest != nullptr) {
      std::copy_n(panel.highest, countAt(position), f.highest + head * shape.tokens() + item.firstRow + position);
    }
    if (f.logSumExp != nullptr) {
      float* to = f.logSumExp + head * shape.tokens() + item.firstRow + position;
      for (size_t i = 0; i < countAt(position); ++i) to[i] = panel.highest[i] + static_cast<float>(logarithm(panel.total[i]) / kLn2);
    }
    finish(f, item.firstRow + position, head, countAt(position), panel, rows);
  });
}

/// Of each head of each document, the largest score of all queries, of q·k/√D in base e.
void joinHighest(const Forward& f, float* largest) {
  const Documents& documents = f.shape.documents;
  for (size_t i = 0; i < documents.count() * f.shape.heads; ++i) {
    const size_t document = i / f.shape.heads, head = i % f.shape.heads;
    const float* rows = f.highest + head * f.shape.tokens() + documents.begin(document);
    largest[i] = *std::max_element(rows, rows + documents.length(document)) * static_cast<float>(kLn2);
  }
}

/// gatedAttention(q[N·H·D], k[N·K·D], v[N·K·D], gate[N·H·D] | [N·H] | null, y[N·H·D], logSumExp[H·N] | null,
///                starts[documents + 1], documents, H, K, D, headwise, window | 0, largest[documents·H] | null). logSumExp is
///                in base 2, of q·k/√D; largest in base e.
double gatedAttention(const Arguments& args) {
  Forward f{};
  f.shape = {Documents(args, 6), args.size(8), args.size(9), args.size(10), windowOf(args, 12)};
  f.headwise = args.boolean(11);
  const Shape& shape = f.shape;
  const size_t tokens = shape.tokens(), queryWidth = shape.heads * shape.headDim;
  const size_t keyWidth = shape.keyValueHeads * shape.headDim;
  f.q = args.floats(0, tokens * queryWidth);
  f.k = args.floats(1, tokens * keyWidth);
  f.v = args.floats(2, tokens * keyWidth);
  f.gate = args.optionalFloats(3, tokens * (f.headwise ? shape.heads : queryWidth));
  f.y = args.floats(4, tokens * queryWidth);
  f.logSumExp = args.optionalFloats(5, shape.heads * tokens);
  float* largest = args.optionalFloats(13, shape.documents.count() * shape.heads);
  static thread_local Scratch memory, rowMemory;
  f.highest = largest == nullptr ? nullptr : rowMemory.floats(shape.heads * tokens);
  f.packedSize = PackedKeys::size(shape);
  const PackedKeys keys(shape, f.k), values(shape, f.v);
  forEachQueryBlock(
      shape, [&](size_t slots) { f.packed = memory.floats(2 * slots * f.packedSize); },
      [&](const Item& item, size_t slot) {
        keys.pack(item, f.keysOf(slot));
        values.pack(item, f.valuesOf(slot));
      },
      [&](const Item& item, size_t block, size_t slot) { computeBlock(f, item, block, slot); });
  if (largest != nullptr) joinHighest(f, largest);
  return 0;
}

SLUICE_EXPORT(gatedAttention, gatedAttention);

}  // namespace

}  // namespace sluice::attention
