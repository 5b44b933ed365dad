// Gated causal attention, backward. With P = 2^(scores − logsumexp), O = P·V, y = O ⊙ σ(gate) and dO = dy ⊙ σ(gate):
//
//   dV = Pᵀ·dO    dS = P ⊙ (dO·Vᵀ − δ)    dQ = dS·K / √D    dK = dSᵀ·Q / √D    dgate = dy ⊙ y ⊙ (1 − σ(gate))
//
// where δ = Σ dO ⊙ O = Σ dy ⊙ y: the ungated output is not needed. A block of queries goes through the keys that it sees
// and adds to their gradients. Every key block takes its contributions in the order of the query blocks: when blocks of
// one item run on several threads, each waits for its turn, so the order of the sums does not depend on threads.

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "addon.h"
#include "attention_tiles.h"
#include "logarithm.h"

namespace sluice::attention {

namespace {

/// A panel of queries and all that belongs to it.
struct Panel {
  float *queryRows, *queries;        // [32][channels], [channels][32]: q·scale
  float *gradientRows, *gradients;   // [32][channels], [channels][32]: dO
  float* dQueries;                   // [channels][32]
  float *weights, *dScores;          // [64][32]
  float *logSumExp, *pull;           // [32]: of the scores; δ

  static size_t size(size_t channels) { return (5 * channels + 2 * kKeyBlock + 2) * kLanes; }

  Panel(float* memory, size_t channels) {
    const auto take = [&memory](size_t rows) { return std::exchange(memory, memory + rows * kLanes); };
    queryRows = take(channels), queries = take(channels);
    gradientRows = take(channels), gradients = take(channels);
    dQueries = take(channels);
    weights = take(kKeyBlock), dScores = take(kKeyBlock);
    logSumExp = take(1), pull = take(1);
  }
};

struct Backward {
  Shape shape;
  const float *q, *k, *v, *gate, *y, *dy, *logSumExp;
  bool headwise;
  float *dq, *dk, *dv, *dGate;
  float* packed = nullptr;  // [slots][4: keys, values, their gradients][T][channels]
  size_t packedSize = 0;    // of one of the four
  size_t keyBlocks = 0;     // of the longest document
  std::vector<std::atomic<size_t>> turns;  // [items][key blocks]: the query block that may add next

  float* keysOf(size_t slot) const { return packed + 4 * slot * packedSize; }
  float* valuesOf(size_t slot) const { return keysOf(slot) + packedSize; }
  float* dKeysOf(size_t slot) const { return keysOf(slot) + 2 * packedSize; }
  float* dValuesOf(size_t slot) const { return keysOf(slot) + 3 * packedSize; }
};

/// dO of `count` queries from token `token` on, in rows and in columns, and δ; writes dgate. Overwrites the memory of the
/// queries and of their gradients.
void beginGradients(const Backward& f, size_t token, size_t head, size_t count, const Panel& panel) {
  const size_t channels = f.shape.channels(), headDim = f.shape.headDim, heads = f.shape.heads, width = heads * headDim;
  const size_t at = token * width + head * headDim;
  float *dO = panel.gradientRows, *products = panel.queryRows, *gates = panel.dQueries;
  copyRows(f.dy + at, width, count, headDim, dO, kLanes, channels);
  copyRows(f.y + at, width, count, headDim, products, kLanes, channels);
  for (size_t i = 0; i < kLanes * channels; i += kWidth) store(products + i, load(products + i) * load(dO + i));
  transposeBlock(products, kLanes, channels, panel.queries);
  for (size_t lane = 0; lane < kLanes; lane += kWidth) {
    Vec pull = {};
    for (size_t c = 0; c < channels; ++c) pull += load(panel.queries + c * kLanes + lane);
    store(panel.pull + lane, pull);
  }
  if (f.gate != nullptr && f.headwise) {
    for (size_t i = 0; i < count; ++i) {
      const size_t index = (token + i) * heads + head;
      const float open = sigmoid(broadcast(f.gate[index]))[0];
      f.dGate[index] = panel.pull[i] * (1.0f - open);
      for (size_t c = 0; c < channels; c += kWidth) store(dO + i * channels + c, load(dO + i * channels + c) * open);
    }
  } else if (f.gate != nullptr) {
    copyRows(f.gate + at, width, count, headDim, gates, kLanes, channels);
    for (size_t i = 0; i < count * channels; i += kWidth) {
      const Vec open = sigmoid(load(gates + i));
      store(dO + i, load(dO + i) * open);
      store(gates + i, load(products + i) * (1.0f - open));
    }
    copyBack(gates, channels, count, headDim, f.dGate + at, width);
  }
  transposeBlock(dO, kLanes, channels, panel.gradients);
}

void begin(const Backward& f, size_t token, size_t head, size_t count, const Panel& panel) {
  const size_t channels = f.shape.channels(), headDim = f.shape.headDim, width = f.shape.heads * headDim;
  beginGradients(f, token, head, count, panel);
  copyRows(f.q + token * width + head * headDim, width, count, headDim, panel.queryRows, kLanes, channels);
  const float scale = scoreScale(f.shape);
  for (size_t i = 0; i < channels * kLanes; i += kWidth) store(panel.queryRows + i, load(panel.queryRows + i) * scale);
  transposeBlock(panel.queryRows, kLanes, channels, panel.queries);

  // Lanes beyond the end of the document weigh nothing.
  std::fill(panel.logSumExp, panel.logSumExp + kLanes, INFINITY);
  std::memcpy(panel.logSumExp, f.logSumExp + head * f.shape.tokens() + token, count * sizeof(float));
  std::fill(panel.dQueries, panel.dQueries + channels * kLanes, 0.0f);
}

/// Scores become weights, and the gradients of the weights become those of the scores, for the keys from `begin` to `keys`.
void differentiate(const Panel& panel, size_t begin, size_t keys, ptrdiff_t ahead, size_t window) {
  for (size_t lane = 0; lane < kLanes; lane += kWidth) {
    const Vec logSumExp = load(panel.logSumExp + lane), pull = load(panel.pull + lane);
    for (size_t key = begin; key < keys; ++key) {
      float *score = panel.weights + key * kLanes + lane, *dScore = panel.dScores + key * kLanes + lane;
      const ptrdiff_t distance = ahead + static_cast<ptrdiff_t>(key);
      Vec weight = exponential2(load(score) - logSumExp);
      if (distance > static_cast<ptrdiff_t>(lane)) weight = sees(lane, distance) ? weight : Vec{};
      const ptrdiff_t reach = distance + static_cast<ptrdiff_t>(window);
      if (reach < static_cast<ptrdiff_t>(lane + kWidth)) weight = sees(lane, reach) ? Vec{} : weight;
      store(score, weight);
      store(dScore, weight * (load(dScore) - pull));
    }
  }
}

/// A part of a sum over queries: weights[kRows][32] from `begin` to `end`, times rows[32][channels].
struct Part {
  const float *weights, *rows;
  size_t begin, end;
};

template <size_t vectors>
inline void sumColumns(const Part* parts, size_t count, size_t channels, size_t column, bool first, float* sums) {
  Vec tile[kRows][vectors] = {};
  if (!first) loadTile(sums + column, channels, tile);
  for (const Part* part = parts; part < parts + count; ++part) {
    addProduct<Left::rows>(part->weights + part->begin, kLanes, part->rows + part->begin * channels + column, channels,
                           part->end - part->begin, tile);
  }
  storeTile(sums + column, channels, tile);
}

/// sums[kRows][channels] = (0 or sums) + Σ weights·rows over the parts.
void sumParts(const Part* parts, size_t count, size_t channels, bool first, float* sums) {
  size_t column = 0;
  for (; column + kVectors * kWidth <= channels; column += kVectors * kWidth) {
    sumColumns<kVectors>(parts, count, channels, column, first, sums);
  }
  for (; column < channels; column += kWidth) sumColumns<1>(parts, count, channels, column, first, sums);
}

/// One block of queries, all heads of the group, and where it lies.
struct QueryBlock {
  const Item& item;
  size_t block, slot, firstPosition, perHead;
  std::vector<Panel>& panels;

  size_t head(size_t panel) const { return item.firstHead + panel / perHead; }
  size_t position(size_t panel) const { return firstPosition + panel % perHead * kLanes; }
};

/// Adds this block's contribution to the gradients of one block of keys and values.
void addToKeys(const Backward& f, const QueryBlock& at, size_t firstKey) {
  static thread_local std::vector<Part> parts, valueParts;
  const size_t channels = f.shape.channels();
  for (size_t key = firstKey; key < firstKey + kKeyBlock; key += kRows) {
    parts.clear(), valueParts.clear();
    // Queries before this position see none of the keys, nor do those from the other one on. (The same for every tile, since
    // 0·x may be −0, or NaN.)
    const size_t seen = key / kKeyStep * kKeyStep, unseen = seen + kKeyStep - 1 + f.shape.window;
    for (size_t p = 0; p < at.panels.size(); ++p) {
      const size_t position = at.position(p);
      if (key >= position + kLanes || position >= unseen) continue;
      const size_t begin = seen > position ? seen - position : 0, end = std::min(kLanes, unseen - position);
      const size_t offset = (key - firstKey) * kLanes;
      const Panel& panel = at.panels[p];
      parts.push_back({panel.dScores + offset, panel.queryRows, begin, end});
      valueParts.push_back({panel.weights + offset, panel.gradientRows, begin, end});
    }
    if (parts.empty()) continue;
    const bool first = key / f.shape.queriesPerBlock() == at.block;
    sumParts(valueParts.data(), valueParts.size(), channels, first, f.dValuesOf(at.slot) + key * channels);
    sumParts(parts.data(), parts.size(), channels, first, f.dKeysOf(at.slot) + key * channels);
  }
}

/// Copies the finished gradients of one block of keys and values to where they belong.
void finishKeys(const Backward& f, const QueryBlock& at, size_t firstKey) {
  const float ln2 = static_cast<float>(kLn2);  // The queries were scaled for base 2.
  const Shape& shape = f.shape;
  const size_t channels = shape.channels(), headDim = shape.headDim, stride = shape.keyValueHeads * headDim;
  for (size_t key = firstKey; key < std::min(firstKey + kKeyBlock, at.item.length); ++key) {
    const size_t to = (at.item.firstRow + key) * stride + at.item.keyValueHead * headDim;
    std::memcpy(f.dv + to, f.dValuesOf(at.slot) + key * channels, headDim * sizeof(float));
    const float* row = f.dKeysOf(at.slot) + key * channels;
    for (size_t c = 0; c < headDim; c += kWidth) storeUpTo(f.dk + to + c, load(row + c) * ln2, headDim - c);
  }
}

void finishQueries(const Backward& f, size_t token, size_t head, size_t count, const Panel& panel) {
  const size_t channels = f.shape.channels(), headDim = f.shape.headDim;
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(headDim)));
  for (size_t i = 0; i < channels * kLanes; i += kWidth) store(panel.dQueries + i, load(panel.dQueries + i) * scale);
  transposeBlock(panel.dQueries, channels, kLanes, panel.queryRows);
  copyBack(panel.queryRows, channels, count, headDim, f.dq + (token * f.shape.heads + head) * headDim,
           f.shape.heads * headDim);
}

void waitForTurn(const std::atomic<size_t>& turn, size_t block) {
  for (size_t spins = 0; turn.load(std::memory_order_acquire) != block; ++spins) {
    if (spins > 4000) std::this_thread::sleep_for(std::chrono::microseconds(50));
    else if (spins > 400) std::this_thread::yield();
  }
}

void computeBlock(Backward& f, const Item& item, size_t block, size_t slot) {
  static thread_local Scratch scratch;
  static thread_local std::vector<Panel> panels;
  const Shape& shape = f.shape;
  const size_t channels = shape.channels(), firstPosition = block * shape.queriesPerBlock();
  // Panels that begin after the document's end have nothing to do.
  const size_t perHead = std::min(shape.panelsPerHead(), (item.length - firstPosition + kLanes - 1) / kLanes);
  float* memory = scratch.floats(shape.group() * perHead * Panel::size(channels));
  panels.clear();
  for (size_t p = 0; p < shape.group() * perHead; ++p) panels.emplace_back(memory + p * Panel::size(channels), channels);
  const QueryBlock at{item, block, slot, firstPosition, perHead, panels};

  const auto countAt = [&](size_t position) { return std::min(kLanes, item.length - position); };
  for (size_t p = 0; p < panels.size(); ++p) {
    begin(f, item.firstRow + at.position(p), at.head(p), countAt(at.position(p)), panels[p]);
  }
  const size_t end = std::min(firstPosition + perHead * kLanes, item.length);
  for (size_t firstKey = shape.firstKeyBlock(block) * kKeyBlock; firstKey < end; firstKey += kKeyBlock) {
    const float *keyRows = f.keysOf(slot) + firstKey * channels, *valueRows = f.valuesOf(slot) + firstKey * channels;
    for (size_t p = 0; p < panels.size(); ++p) {
      const size_t position = at.position(p);
      const size_t skipped = shape.skipped(position, firstKey);
      if (firstKey + skipped >= std::min(position + kLanes, firstKey + kKeyBlock)) continue;
      const size_t keys = std::min(kKeyBlock, position + kLanes - firstKey), seen = keys - skipped;
      const ptrdiff_t ahead = static_cast<ptrdiff_t>(firstKey) - static_cast<ptrdiff_t>(position);
      float *weights = panels[p].weights + skipped * kLanes, *dScores = panels[p].dScores + skipped * kLanes;
      multiplyRows(keyRows + skipped * channels, panels[p].queries, seen, channels, weights);
      multiplyRows(valueRows + skipped * channels, panels[p].gradients, seen, channels, dScores);
      differentiate(panels[p], skipped, keys, ahead, shape.window);
      addWeightedRows(keyRows + skipped * channels, dScores, seen, channels, nullptr, panels[p].dQueries);
    }
    std::atomic<size_t>& turn = f.turns[item.index * f.keyBlocks + firstKey / kKeyBlock];
    waitForTurn(turn, block);
    addToKeys(f, at, firstKey);
    if (block == shape.lastQueryBlock(firstKey / kKeyBlock, item.length)) finishKeys(f, at, firstKey);
    turn.store(block + 1, std::memory_order_release);
  }
  for (size_t p = 0; p < panels.size(); ++p) {
    const size_t position = at.position(p);
    finishQueries(f, item.firstRow + position, at.head(p), countAt(position), panels[p]);
  }
}

/// gatedAttentionBackward(q, k, v, gate | null, y, dy, logSumExp, dq, dk, dv, dGate | null, starts[documents + 1],
///                        documents, H, K, D, headwise, window | 0)
/// dq may be q or dy, dk may be k, dv may be v, dGate may be gate.
double gatedAttentionBackward(const Arguments& args) {
  Backward f{};
  f.shape = {Documents(args, 11), args.size(13), args.size(14), args.size(15), windowOf(args, 17)};
  f.headwise = args.boolean(16);
  const Shape& shape = f.shape;
  const size_t tokens = shape.tokens(), queries = tokens * shape.heads * shape.headDim;
  const size_t keyValues = tokens * shape.keyValueHeads * shape.headDim, gates = f.headwise ? tokens * shape.heads : queries;
  f.q = args.floats(0, queries);
  f.k = args.floats(1, keyValues);
  f.v = args.floats(2, keyValues);
  f.gate = args.optionalFloats(3, gates);
  f.y = args.floats(4, queries);
  f.dy = args.floats(5, queries);
  f.logSumExp = args.floats(6, tokens * shape.heads);
  f.dq = args.floats(7, queries);
  f.dk = args.floats(8, keyValues);
  f.dv = args.floats(9, keyValues);
  f.dGate = f.gate == nullptr ? nullptr : args.floats(10, gates);

  static thread_local Scratch memory;
  f.packedSize = PackedKeys::size(shape);
  f.keyBlocks = shape.keyBlocks(shape.documents.longest());
  f.turns = std::vector<std::atomic<size_t>>(shape.items() * f.keyBlocks);
  for (size_t i = 0; i < f.turns.size(); ++i) f.turns[i] = i % f.keyBlocks * kKeyBlock / shape.queriesPerBlock();
  const PackedKeys keys(shape, f.k), values(shape, f.v);
  forEachQueryBlock(
      shape, [&](size_t slots) { f.packed = memory.floats(4 * slots * f.packedSize); },
      [&](const Item& item, size_t slot) {
        keys.pack(item, f.keysOf(slot));
        values.pack(item, f.valuesOf(slot));
      },
      [&](const Item& item, size_t block, size_t slot) { computeBlock(f, item, block, slot); });
  return 0;
}

SLUICE_EXPORT(gatedAttentionBackward, gatedAttentionBackward);

}  // namespace

}  // namespace sluice::attention
