/**
 * What Hopper's kernels of attention share. A block has 128 rows of one document and head: two consumers, a warpgroup each, own 64 of them,
 * and a producer has the copy engine fill rings with the tiles that pass by. Tiles are counted from the document's first token and added
 * up from first to last, as by `mma.sync`, and a consumer leaves out those that its rows do not see: so the bits are the same.
 */
#pragma once

#include "attention.h"
#include "hopper.h"

constexpr int CONSUMERS = 2, HOPPER_THREADS = 384;
/** Numbers of barriers: of all consumers, which those of single ones follow, and of each consumer's turn. */
constexpr int CONSUMER_BARRIER = 1, TURN_BARRIER = CONSUMER_BARRIER + 1 + CONSUMERS;

/** Rows of a head in shared memory, of D channels, in panels of 64. */
template <int LINES, int D>
struct Panels {
  alignas(1024) bf16 values[D / PANEL][LINES][PANEL];

  /**
   * Begins to copy the rows of a head from `row` on, of a matrix [rows, heads, channels] whose boxes have BOX rows; zeros beyond its
   * last row and channel. `barrier` expects the bytes of the whole.
   */
  template <int BOX = LINES>
  DEVICE void begin(const TensorMap& map, int head, int row, Barrier& barrier) {
    NO_UNROLL
    for (int panel = 0; panel < D / PANEL; panel++) {
      NO_UNROLL
      for (int line = 0; line < LINES; line += BOX) beginTile(values[panel][line], map, panel * PANEL, head, row + line, barrier);
    }
  }
  /** As operands: sixteen channels of all rows, or sixteen rows of all channels. */
  DEVICE uint64 along(int channel) { return operandAlong(values[channel / PANEL]) + channel % PANEL / 16 * STEP<ALONG>; }
  DEVICE uint64 across(int line) { return operandAcross(values, LINES * PANEL * 2) + line / 16 * STEP<ACROSS>; }

  /** Makes zeros of the rows from `line` on, by `threads` threads. */
  DEVICE void clearFrom(int line, int thread, int threads) {
    constexpr int PACKS = PANEL / 8;
    NO_UNROLL
    for (int panel = 0; panel < D / PANEL; panel++) {
      NO_UNROLL
      for (int i = line * PACKS + thread; i < LINES * PACKS; i += threads) packAt(&values[panel][i / PACKS][i % PACKS * 8]) = {};
    }
  }
};

/** Barriers of a ring of stages: of each whether it is full, and whether all consumers have given it back. */
template <int STAGES>
struct Ring {
  Barrier full[STAGES], empty[STAGES];

  /** By one thread. @param arrivals of a stage that is filled: one that expects bytes, and others */
  DEVICE void begin(int arrivals) {
    for (int stage = 0; stage < STAGES; stage++) {
      initialize(full[stage], arrivals);
      initialize(empty[stage], CONSUMERS * WARPGROUP / 32);
    }
  }
};

/** Whose turn it is in a ring. */
template <int STAGES>
struct Turn {
  int stage = 0, parity = 0;
  DEVICE void next() {
    if (++stage == STAGES) stage = 0, parity ^= 1;
  }
};

template <int STAGES>
DEVICE void waitUntilFull(Ring<STAGES>& ring, Turn<STAGES> turn) {
  waitFor(ring.full[turn.stage], turn.parity);
}
template <int STAGES>
DEVICE void waitUntilEmpty(Ring<STAGES>& ring, Turn<STAGES> turn) {
  waitFor(ring.empty[turn.stage], turn.parity ^ 1);
}
/** Gives a stage back, by all threads of a consumer, which have done with it. */
template <int STAGES>
DEVICE void giveBack(Ring<STAGES>& ring, Turn<STAGES>& turn) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) arrive(ring.empty[turn.stage]);
  turn.next();
}

/**
 * A value that all lanes of a warp have. The compiler does not know that of what depends on memory or on the thread's number; with it,
 * addresses of operands are computed once for the warp, and loops take no registers of threads.
 */
DEVICE int ofWarp(int value) { return __shfl_sync(0xffffffffu, value, 0); }

/** Which consumer a warp is of; −1 for the producer. */
DEVICE int consumerOfWarp() { return ofWarp(threadIdx.x / WARPGROUP) - 1; }
DEVICE int placeInGroup() { return threadIdx.x % WARPGROUP; }

/** `rangeOf`, of a warp. */
DEVICE Range blockOf(const int* ranges) {
  const Range range = rangeOf(ranges);
  return {ofWarp(range.first), ofWarp(range.begin), ofWarp(range.end)};
}

/** The rows of a consumer, which has none where `first` is not before `end`. */
DEVICE Range rowsOf(Range block, int consumer) { return {block.first + consumer * ROWS, block.begin, block.end}; }
/** The first of the two rows that a lane has a part of; the other is eight further. */
DEVICE int ownRow(Range own) { return own.first + placeInGroup() / 32 * 16 + placeInGroup() % 32 / 4; }

/** Tiles from `first` until before `end`. */
struct Span {
  int first, end;
  DEVICE bool has(int tile) const { return first <= tile && tile < end; }
  DEVICE int count() const { return end - first; }
};

/** Tiles of LINES keys that the rows of a consumer see. */
template <int LINES>
DEVICE Span keysOf(Range own, Heads heads) {
  return own.first < own.end ? Span{firstKeyTile(own, heads, LINES), tilesUntil(own, LINES)} : Span{0, 0};
}
/** Tiles of LINES queries that see a key of a consumer's. */
template <int LINES>
DEVICE Span queriesOf(Range own, Heads heads) {
  if (own.first >= own.end) return {0, 0};
  const int lastKey = ownEnd(own) - 1;
  const int lastQuery = heads.window > 0 && lastKey + heads.window < own.end ? lastKey + heads.window - 1 : own.end - 1;
  return {(own.first - own.begin) / LINES, (lastQuery - own.begin) / LINES + 1};
}
/** What either consumer needs: the second one's rows follow the first one's. */
DEVICE Span spanOfBoth(Span first, Span second) { return {first.first, first.end > second.end ? first.end : second.end}; }

/** Rows from `first` on, `count` of them. */
struct Rows {
  int first;
  uint32 count;
  DEVICE bool has(int row) const { return static_cast<uint32>(row - first) < count; }
};
/** Keys that a query sees, or all that its document may have. */
DEVICE int reachOf(Range own, Heads heads) { return heads.window > 0 ? heads.window : own.end - own.begin; }
/** What `isSeen` says: of a document's keys those that a query sees, and of its queries those that see a key. */
DEVICE Rows keysSeenBy(int query, Range own, Heads heads) {
  const int before = query + 1 - reachOf(own, heads), first = before > own.begin ? before : own.begin;
  return {first, static_cast<uint32>(query + 1 - first)};
}
DEVICE Rows queriesThatSee(int key, Range own, Heads heads) {
  const int beyond = key + reachOf(own, heads), end = beyond < own.end ? beyond : own.end;
  return {key, static_cast<uint32>(end > key ? end - key : 0)};
}

/** Tiles of a document of which all rows are from `first` until before `end`. */
template <int LINES>
DEVICE Span tilesWithin(int first, int end, Range own) {
  return {(first - own.begin + LINES - 1) / LINES, (end - own.begin) / LINES};
}
/** Tiles of keys that all rows of a consumer see as a whole, or of queries that see all its rows: those that need no mask. */
template <int LINES>
DEVICE Span keysSeenByAll(Range own, Heads heads) {
  return tilesWithin<LINES>(keysSeenBy(own.first + ROWS - 1, own, heads).first, own.first + 1, own);
}
template <int LINES>
DEVICE Span queriesThatSeeAll(Range own, Heads heads) {
  const Rows seeing = queriesThatSee(own.first, own, heads);
  return tilesWithin<LINES>(own.first + ROWS - 1, seeing.first + static_cast<int>(seeing.count), own);
}

/** sums [64, LINES] = `left` · `right`ᵀ over the channels. Within a group of products. */
template <int D, int LINES>
DEVICE void multiplyRows(float (&sums)[LINES / 2], Panels<ROWS, D>& left, Panels<LINES, D>& right) {
  UNROLL
  for (int d = 0; d < D; d += 16) multiplyTiles<ALONG, ALONG>(sums, left.along(d), right.along(d), d > 0);
}

/** sums [64, D] = weights [64, LINES] · `rows`, or that added. Within a group of products. */
template <int D, int LINES>
DEVICE void addWeighted(float (&sums)[D / 2], const FragmentA (&weights)[LINES / 16], Panels<LINES, D>& rows, bool accumulate) {
  UNROLL
  for (int line = 0; line < LINES; line += 16)
    multiplyFragment<ACROSS>(sums, weights[line / 16], rows.across(line), accumulate || line > 0);
}

/** Gives `value` to those of a consumer's sums whose column is not among those of their row. */
template <int N>
DEVICE void mask(float (&sums)[N], float value, int firstColumn, Rows seen, Rows seenBelow) {
  UNROLL
  for (int i = 0; i < N; i++) {
    const int column = firstColumn + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
    if (!(i % 4 < 2 ? seen : seenBelow).has(column)) sums[i] = value;
  }
}

/** What products left in a lane, sixteen columns at a time, is its part of left operands. */
template <int N>
DEVICE void operandsOf(FragmentA (&operands)[N / 8], const float (&sums)[N]) {
  UNROLL
  for (int i = 0; i < N / 8; i++) {
    const float* v = &sums[8 * i];
    operands[i] = {{packBf16(v[0], v[1]), packBf16(v[2], v[3]), packBf16(v[4], v[5]), packBf16(v[6], v[7])}};
  }
}

/** Writes the channels that are there of a consumer's rows, times a factor, as bf16. */
template <int D>
DEVICE void storeRows(bf16* to, uint64 stride, const float (&sums)[D / 2], float factor, Range own, int channels) {
  UNROLL
  for (int half = 0; half < 2; half++) {
    const int row = ownRow(own) + half * 8;
    if (row >= own.end) continue;
    UNROLL
    for (int j = 0; j < D / 8; j++) {
      if (j * 8 >= channels) continue;
      *reinterpret_cast<uint32*>(to + row * stride + j * 8 + threadIdx.x % 4 * 2) =
          packBf16(sums[4 * j + 2 * half] * factor, sums[4 * j + 2 * half + 1] * factor);
    }
  }
}
