// What forward and backward attention share: their shapes, the small matrix products that stay in registers, and the way
// work is handed to threads.
//
// Queries lie side by side in the lanes of vectors: a *panel* is 32 consecutive positions of one head, stored with the
// channels (or the keys) as rows of 32 numbers. Scores are then computed as K·Qᵀ, so that keys and values are read one
// number at a time from their natural rows, and the softmax over the keys needs no operation across lanes.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "documents.h"
#include "parallel.h"
#include "scratch.h"
#include "simd.h"
#include "tiles.h"

namespace sluice::attention {

/// Positions in a panel.
constexpr size_t kLanes = 32;
/// Keys that are treated together.
constexpr size_t kKeyBlock = 64;
/// Channels of a head are padded with zeros to a multiple of this.
constexpr size_t kChannelStep = 16;

/// Keys that share the queries, and the other way round, which are left out because they see none of them: a whole number of any
/// machine's tiles.
constexpr size_t kKeyStep = 8;
static_assert(kKeyStep % kRows == 0);
/// Where a query sees all tokens before it.
constexpr size_t kNoWindow = SIZE_MAX / 4;

/// Documents of N tokens in all, H query heads, K key-value heads, D channels a head; G = H / K query heads share a key-value
/// head. A query sees the last `window` tokens, its own among them.
struct Shape {
  Documents documents;
  size_t heads, keyValueHeads, headDim, window;

  size_t tokens() const { return documents.tokens(); }
  size_t group() const { return heads / keyValueHeads; }
  /// Channels of a head with padding.
  size_t channels() const { return roundUp(headDim, kChannelStep); }
  /// Pairs of document and key-value head: they have nothing to do with each other.
  size_t items() const { return documents.count() * keyValueHeads; }
  /// Panels of one head that are treated together: together with the other heads of the group they should fit in cache.
  size_t panelsPerHead() const { return group() * channels() > 512 ? 1 : 2; }
  size_t panels() const { return group() * panelsPerHead(); }
  size_t queriesPerBlock() const { return panelsPerHead() * kLanes; }
  /// The first key that the query at `position` sees.
  size_t firstSeen(size_t position) const { return position < window ? 0 : position + 1 - window; }
  /// The key block in which those of a query block begin, and the last query block that sees something of a key block.
  size_t firstKeyBlock(size_t queryBlock) const { return firstSeen(queryBlock * queriesPerBlock()) / kKeyBlock; }
  size_t lastQueryBlock(size_t keyBlock, size_t length) const {
    return std::min(queryBlocks(length) - 1, ((keyBlock + 1) * kKeyBlock + window - 2) / queriesPerBlock());
  }
  /// How many of the keys from `firstKey` on, in whole steps, none of the panel at `position` sees.
  size_t skipped(size_t position, size_t firstKey) const {
    const size_t first = firstSeen(position);
    return first > firstKey ? std::min(kKeyBlock, (first - firstKey) / kKeyStep * kKeyStep) : 0;
  }
  size_t keyBlocks(size_t length) const { return (length + kKeyBlock - 1) / kKeyBlock; }
  size_t queryBlocks(size_t length) const { return (length + queriesPerBlock() - 1) / queriesPerBlock(); }
};

/// A pair of document and key-value head. Blocks of queries and keys are counted from the document's first token, so that
/// what stands before it changes no bit.
struct Item {
  size_t index, document, keyValueHead;
  /// The document's first row and its tokens.
  size_t firstRow, length;
  /// The first of the query heads that share the key-value head.
  size_t firstHead;

  Item(const Shape& shape, size_t item)
      : index(item), document(item / shape.keyValueHeads), keyValueHead(item % shape.keyValueHeads),
        firstRow(shape.documents.begin(document)), length(shape.documents.length(document)),
        firstHead(keyValueHead * shape.group()) {}
};

/// Scores are kept in base 2: q is multiplied by this, and e^(q·k/√D) becomes 2^(that product).
inline float scoreScale(const Shape& shape) {
  return static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(shape.headDim)));
}

/// scores[keys][32] = rows[keys][channels] · panel[channels][32]; keys is a multiple of kRows.
inline void multiplyRows(const float* rows, const float* panel, size_t keys, size_t channels, float* scores) {
  for (size_t key = 0; key < keys; key += kRows) {
    for (size_t lane = 0; lane < kLanes; lane += kVectors * kWidth) {
      Vec tile[kRows][kVectors] = {};
      addProduct<Left::rows>(rows + key * channels, channels, panel + lane, kLanes, channels, tile);
      storeTile(scores + key * kLanes + lane, kLanes, tile);
    }
  }
}

/// sums[channels][32] = sums · factor + rows[keys][channels]ᵀ · weights[keys][32]. A null factor stands for ones.
inline void addWeightedRows(const float* rows, const float* weights, size_t keys, size_t channels, const float* factor,
                            float* sums) {
  for (size_t channel = 0; channel < channels; channel += kRows) {
    for (size_t lane = 0; lane < kLanes; lane += kVectors * kWidth) {
      Vec tile[kRows][kVectors];
      loadTile(sums + channel * kLanes + lane, kLanes, tile);
      if (factor != nullptr) {
#pragma GCC unroll 8
        for (size_t v = 0; v < kVectors; ++v) {
          const Vec scale = load(factor + lane + v * kWidth);
#pragma GCC unroll 8
          for (size_t r = 0; r < kRows; ++r) tile[r][v] *= scale;
        }
      }
      addProduct<Left::columns>(rows + channel, channels, weights + lane, kLanes, keys, tile);
      storeTile(sums + channel * kLanes + lane, kLanes, tile);
    }
  }
}

/// Whether lane l of the vector at `lane` sees a key that lies `ahead` positions after the panel's first: ahead ≤ lane + l.
inline VecInt sees(size_t lane, ptrdiff_t ahead) {
  int32_t number[kWidth];
  for (size_t i = 0; i < kWidth; ++i) number[i] = static_cast<int32_t>(lane + i);
  VecInt lanes;
  std::memcpy(&lanes, number, sizeof lanes);
  return lanes >= static_cast<int32_t>(ahead);
}

/// A window of an argument, where 0 stands for none.
inline size_t windowOf(const Arguments& args, size_t index) {
  const size_t window = args.size(index);
  return window == 0 ? kNoWindow : std::min(window, kNoWindow);
}

/// Makes the scores of keys that a query does not see weigh nothing.
/// @param scores [keys][32]  @param ahead positions from the panel's first query to the first key
inline void hideUnseen(float* scores, size_t keys, ptrdiff_t ahead, size_t window) {
  // Keys that the last queries of the panel have left behind.
  const ptrdiff_t reach = static_cast<ptrdiff_t>(window) + ahead;
  for (size_t key = 0; key < keys && reach + static_cast<ptrdiff_t>(key) < static_cast<ptrdiff_t>(kLanes); ++key) {
    const ptrdiff_t end = reach + static_cast<ptrdiff_t>(key);
    for (size_t lane = end > 0 ? static_cast<size_t>(end) / kWidth * kWidth : 0; lane < kLanes; lane += kWidth) {
      float* score = scores + key * kLanes + lane;
      store(score, sees(lane, end) ? broadcast(-INFINITY) : load(score));
    }
  }
  for (size_t key = ahead > 0 ? 0 : static_cast<size_t>(-ahead) + 1; key < keys; ++key) {
    const ptrdiff_t distance = ahead + static_cast<ptrdiff_t>(key);
    for (size_t lane = 0; lane < kLanes && static_cast<ptrdiff_t>(lane) < distance; lane += kWidth) {
      float* score = scores + key * kLanes + lane;
      store(score, sees(lane, distance) ? load(score) : broadcast(-INFINITY));
    }
  }
}

/// Keys and values of each item, copied so that a head's rows follow each other, padded with zeros to whole blocks.
class PackedKeys {
 public:
  PackedKeys(const Shape& shape, const float* source) : shape_(shape), source_(source) {}
  /// Of the longest document.
  static size_t size(const Shape& shape) {
    return shape.keyBlocks(shape.documents.longest()) * kKeyBlock * shape.channels();
  }

  void pack(const Item& item, float* to) const {
    const size_t stride = shape_.keyValueHeads * shape_.headDim;
    copyRows(source_ + item.firstRow * stride + item.keyValueHead * shape_.headDim, stride, item.length, shape_.headDim, to,
             shape_.keyBlocks(item.length) * kKeyBlock, shape_.channels());
  }

 private:
  const Shape& shape_;
  const float* source_;
};

/// Runs `prepare(item, slot)` and then `compute(item, block, slot)` for every query block of every item. Threads take whole
/// items, each in the memory of its own slot, as long as there are enough for all threads; the blocks of the last few items
/// are shared out one by one. A block begins only when all earlier blocks of its item have begun. Which way an item goes
/// must not matter to `compute`.
/// @param setUp called first, with the number of slots
template <typename SetUp, typename Prepare, typename Compute>
void forEachQueryBlock(const Shape& shape, const SetUp& setUp, const Prepare& prepare, const Compute& compute) {
  const size_t items = shape.items(), workers = static_cast<size_t>(threadCount());
  // A few items of unequal lengths would leave all threads but one waiting for the longest.
  const size_t last = shape.documents.areEqual() ? items % workers : items;
  const size_t shared = workers == 1 || items >= 4 * workers ? 0 : last, whole = items - shared;
  setUp(workers + shared);
  parallelItems(shared, [&](size_t item) { prepare(Item(shape, whole + item), workers + item); });
  const size_t tickets = whole + shared * shape.queryBlocks(shape.documents.longest());
  std::atomic<size_t> next{0};
  parallelFor(workers, 1, [&](size_t begin, size_t end) {
    for (size_t slot = begin; slot < end; ++slot) {
      for (size_t ticket = next++; ticket < tickets; ticket = next++) {
        if (ticket < whole) {
          const Item item(shape, ticket);
          prepare(item, slot);
          for (size_t block = 0; block < shape.queryBlocks(item.length); ++block) compute(item, block, slot);
        } else {
          // One block of each shared item in turn, so that threads seldom meet in an item.
          const size_t place = (ticket - whole) % shared, block = (ticket - whole) / shared;
          const Item item(shape, whole + place);
          if (block < shape.queryBlocks(item.length)) compute(item, block, workers + place);
        }
      }
    }
  });
}

}  // namespace sluice::attention
