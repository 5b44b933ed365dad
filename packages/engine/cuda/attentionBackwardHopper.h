/**
 * The gradients of attention on Hopper: what `attentionBackward.h` computes, with its bits, in the same two kernels without any sum
 * across blocks. Scores and the gradients of weights stay in registers, from where they are left operands of the sums.
 *
 * Where heads are wide, the grid's z says whether a block forms the gradients of keys or those of values: one of them fits into registers.
 */
#pragma once

#include "attentionBackward.h"
#include "attentionHopper.h"

/** Of rows that pass by: those of a tile, and how many tiles of each kind are there at a time. */
template <int D>
struct PassingHopper {
  static constexpr bool IS_WIDE = D > 128;
  static constexpr int LINES = IS_WIDE ? ROWS / 2 : ROWS, STAGES = IS_WIDE ? 3 : 4;
  /** Of each thread, out of 168 that the block has for each. */
  static constexpr int PRODUCER_REGISTERS = 40, CONSUMER_REGISTERS = 232;

  /**
   * The consumers begin their products by turns, twice a tile, so that the products of one run beside the arithmetic of the other. Both
   * have as many turns, whatever their rows see. Wide tiles, which wait for shared memory, have no registers for it.
   */
  static DEVICE void takeTurn(int consumer) {
    if constexpr (!IS_WIDE) syncThreads(TURN_BARRIER + consumer, CONSUMERS * WARPGROUP);
  }
  static DEVICE void passTurn(int consumer) {
    if constexpr (!IS_WIDE) arriveThreads(TURN_BARRIER + 1 - consumer, CONSUMERS * WARPGROUP);
  }
  static DEVICE void leaveOutTurns(int consumer) {
    for (int i = 0; i < 2; i++) {
      takeTurn(consumer);
      passTurn(consumer);
    }
  }
  /** The first consumer has the first turn, and waits for the end of the last one. */
  static DEVICE void beginTurns(int consumer) {
    if (consumer == 1) passTurn(consumer);
  }
  static DEVICE void endTurns(int consumer) {
    if (consumer == 0) takeTurn(consumer);
  }
};

/** What the gradients begin with: a ring that thread 0 fills, and a barrier of the own rows. */
template <int STAGES>
DEVICE void beginBackward(Ring<STAGES>& passing, int arrivals, Barrier& own) {
  if (threadIdx.x == 0) {
    passing.begin(arrivals);
    initialize(own, 1);
    publishBarriers();
  }
  __syncthreads();
}

/** Begins to copy the block's own rows, of two kinds. */
template <int BOX, int D>
DEVICE void beginOwn(Panels<ROWS, D> (&first)[CONSUMERS], const TensorMap& of, Panels<ROWS, D> (&second)[CONSUMERS],
                     const TensorMap& ofSecond, int head, int row, Barrier& own) {
  expectBytes(own, sizeof first + sizeof second);
  NO_UNROLL
  for (int i = 0; i < CONSUMERS; i++) {
    first[i].template begin<BOX>(of, head, row + i * ROWS, own);
    second[i].template begin<BOX>(ofSecond, head, row + i * ROWS, own);
  }
}

template <int D, bool IS_CAPPED = false>
struct AttentionKeysHopper : PassingHopper<D> {
  using PassingHopper<D>::IS_WIDE;
  using PassingHopper<D>::LINES;
  using PassingHopper<D>::STAGES;
  using PassingHopper<D>::PRODUCER_REGISTERS;
  using PassingHopper<D>::CONSUMER_REGISTERS;
  using PassingHopper<D>::takeTurn;
  using PassingHopper<D>::passTurn;
  using PassingHopper<D>::leaveOutTurns;
  using PassingHopper<D>::beginTurns;
  using PassingHopper<D>::endTurns;

  /** Of two queries that are neighbours. */
  struct alignas(16) Pair {
    float logSumExp[2], delta[2];
  };
  struct Shared {
    Panels<ROWS, D> k[CONSUMERS], v[CONSUMERS];
    Panels<LINES, D> q[STAGES], dOut[STAGES];
    Pair pairs[STAGES][LINES / 2];
    Ring<STAGES> queries;
    Barrier own;
  };

  static DEVICE void run(const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& dOut, const float* logSumExp,
                         const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    // Of a thread that has the tiles copied, and a warp that brings what belongs to their rows.
    beginBackward(shared.queries, 2, shared.own);
    const Range block = blockOf(ranges);
    const int consumer = consumerOfWarp();
    const Span tiles = spanOfBoth(queriesOf<LINES>(rowsOf(block, 0), heads), queriesOf<LINES>(rowsOf(block, 1), heads));
    if (consumer < 0) {
      lowerRegisters<PRODUCER_REGISTERS>();
      if (threadIdx.x == 0) produce(shared, q, k, v, dOut, block, tiles, heads);
      else if (threadIdx.x / 32 == 1) producePairs(shared, logSumExp, delta, block, tiles, rows, heads);
      return;
    }
    raiseRegisters<CONSUMER_REGISTERS>();
    if constexpr (!IS_WIDE) consume<true, true>(shared, dk, dv, block, consumer, tiles, heads);
    else if (blockIdx.z == 0) consume<true, false>(shared, dk, dv, block, consumer, tiles, heads);
    else consume<false, true>(shared, dk, dv, block, consumer, tiles, heads);
  }

  /** Calls `work(head, tile)` for the query heads that share the block's, and their tiles, in the order in which they are added up. */
  template <typename Work>
  static DEVICE void walk(Span tiles, Heads heads, const Work& work) {
    const int group = heads.heads / heads.keyValueHeads, first = blockIdx.y * group;
    NO_UNROLL
    for (int head = first; head < first + group; head++) {
      NO_UNROLL
      for (int tile = tiles.first; tile < tiles.end; tile++) work(head, tile);
    }
  }

  static DEVICE void produce(Shared& shared, const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& dOut, Range block,
                             Span tiles, Heads heads) {
    beginOwn<LINES>(shared.k, k, shared.v, v, blockIdx.y, block.first, shared.own);
    Turn<STAGES> turn;
    walk(tiles, heads, [&](int head, int tile) {
      Barrier& full = shared.queries.full[turn.stage];
      waitUntilEmpty(shared.queries, turn);
      expectBytes(full, sizeof shared.q[0] + sizeof shared.dOut[0]);
      shared.q[turn.stage].begin(q, head, block.begin + tile * LINES, full);
      shared.dOut[turn.stage].begin(dOut, head, block.begin + tile * LINES, full);
      turn.next();
    });
  }

  static DEVICE void producePairs(Shared& shared, const float* logSumExp, const float* delta, Range block, Span tiles, int rows,
                                  Heads heads) {
    const int lane = threadIdx.x % 32;
    Turn<STAGES> turn;
    walk(tiles, heads, [&](int head, int tile) {
      waitUntilEmpty(shared.queries, turn);
      NO_UNROLL
      for (int line = lane; line < LINES; line += 32) {
        const int query = block.begin + tile * LINES + line;
        const uint64 at = static_cast<uint64>(head) * rows + query;
        Pair& pair = shared.pairs[turn.stage][line / 2];
        pair.logSumExp[line % 2] = query < block.end ? logSumExp[at] : 0.0f;
        pair.delta[line % 2] = query < block.end ? delta[at] : 0.0f;
      }
      __syncwarp();
      if (lane == 0) arrive(shared.queries.full[turn.stage]);
      turn.next();
    });
  }

  template <bool GIVES_KEYS, bool GIVES_VALUES>
  static DEVICE void consume(Shared& shared, bf16* dk, bf16* dv, Range block, int consumer, Span tiles, Heads heads) {
    const Range own = rowsOf(block, consumer);
    const Span seen = queriesOf<LINES>(own, heads), whole = queriesThatSeeAll<LINES>(own, heads);
    float dKeys[D / 2], dValues[D / 2];
    UNROLL
    for (int i = 0; i < D / 2; i++) dKeys[i] = dValues[i] = 0.0f;
    Turn<STAGES> turn;
    waitFor(shared.own, 0);
    beginTurns(consumer);
    walk(tiles, heads, [&](int, int tile) {
      const int firstQuery = own.begin + tile * LINES;
      Panels<LINES, D>&q = shared.q[turn.stage], &dOut = shared.dOut[turn.stage];
      waitUntilFull(shared.queries, turn);
      if (firstQuery + LINES > own.end) clearOthers(q, dOut, own.end - firstQuery);
      if (seen.has(tile)) {
        float weights[LINES / 2], gradients[LINES / 2];
        takeTurn(consumer);
        holdSums(weights);
        beginProducts();
        multiplyRows<D, LINES>(weights, shared.k[consumer], q);
        commitProducts();
        if constexpr (GIVES_KEYS) {
          holdSums(gradients);
          beginProducts();
          multiplyRows<D, LINES>(gradients, shared.v[consumer], dOut);
          commitProducts();
        }
        passTurn(consumer);
        waitForProducts<0>();
        holdSums(weights);
        if constexpr (GIVES_KEYS) holdSums(gradients);
        weigh<GIVES_KEYS>(weights, gradients, shared.pairs[turn.stage], heads);
        if (!whole.has(tile)) {
          const Rows seeing = queriesThatSee(ownRow(own), own, heads), seeingBelow = queriesThatSee(ownRow(own) + 8, own, heads);
          mask(weights, 0.0f, firstQuery, seeing, seeingBelow);
          if constexpr (GIVES_KEYS) mask(gradients, 0.0f, firstQuery, seeing, seeingBelow);
        }
        FragmentA ofValues[LINES / 16], ofKeys[LINES / 16];
        if constexpr (GIVES_VALUES) operandsOf(ofValues, weights);
        if constexpr (GIVES_KEYS) operandsOf(ofKeys, gradients);
        takeTurn(consumer);
        if constexpr (GIVES_VALUES) {
          holdSums(dValues);
          beginProducts();
          addWeighted<D, LINES>(dValues, ofValues, dOut, true);
          commitProducts();
        }
        if constexpr (GIVES_KEYS) {
          holdSums(dKeys);
          beginProducts();
          addWeighted<D, LINES>(dKeys, ofKeys, q, true);
          commitProducts();
        }
        passTurn(consumer);
        waitForProducts<0>();
        if constexpr (GIVES_VALUES) holdSums(dValues);
        if constexpr (GIVES_KEYS) holdSums(dKeys);
      } else {
        leaveOutTurns(consumer);
      }
      giveBack(shared.queries, turn);
    });
    endTurns(consumer);
    if (own.first >= own.end) return;
    const uint64 stride = strideOf(heads.keyValueHeads, heads);
    const int at = blockIdx.y * heads.headDim;
    if constexpr (GIVES_KEYS) storeRows<D>(dk + at, stride, dKeys, heads.scale, own, heads.headDim);
    if constexpr (GIVES_VALUES) storeRows<D>(dv + at, stride, dValues, 1.0f, own, heads.headDim);
  }

  /** Makes zeros of the queries of other documents, by both consumers: a weight of 0 does not undo what is no number. */
  static DEVICE void clearOthers(Panels<LINES, D>& q, Panels<LINES, D>& dOut, int from) {
    const int thread = static_cast<int>(threadIdx.x) - WARPGROUP;
    q.clearFrom(from, thread, CONSUMERS * WARPGROUP);
    dOut.clearFrom(from, thread, CONSUMERS * WARPGROUP);
    publishWrites();
    syncThreads(CONSUMER_BARRIER, CONSUMERS * WARPGROUP);
  }

  /** Scores become weights, as if all were seen, and gradients of weights those of scores. Rows are keys. */
  template <bool GIVES_KEYS>
  static DEVICE void weigh(float (&weights)[LINES / 2], float (&gradients)[LINES / 2], const Pair (&pairs)[LINES / 2], Heads heads) {
    UNROLL
    for (int j = 0; j < LINES / 8; j++) {
      const Pair pair = pairs[j * 4 + threadIdx.x % 4];
      UNROLL
      for (int e = 0; e < 4; e++) {
        float &weight = weights[4 * j + e], &gradient = gradients[4 * j + e], slope;
        weight = weightOf<IS_CAPPED>(weight, slope, pair.logSumExp[e % 2], true, heads);
        if constexpr (GIVES_KEYS) gradient = weight * (gradient - pair.delta[e % 2]) * slope;
      }
    }
  }
};

template <int D, bool IS_CAPPED = false>
struct AttentionQueriesHopper : PassingHopper<D> {
  using PassingHopper<D>::LINES;
  using PassingHopper<D>::STAGES;
  using PassingHopper<D>::PRODUCER_REGISTERS;
  using PassingHopper<D>::CONSUMER_REGISTERS;
  using PassingHopper<D>::takeTurn;
  using PassingHopper<D>::passTurn;
  using PassingHopper<D>::leaveOutTurns;
  using PassingHopper<D>::beginTurns;
  using PassingHopper<D>::endTurns;

  struct Shared {
    Panels<ROWS, D> q[CONSUMERS], dOut[CONSUMERS];
    Panels<LINES, D> k[STAGES], v[STAGES];
    Ring<STAGES> keys;
    Barrier own;
  };

  static DEVICE void run(const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& dOut, const float* logSumExp,
                         const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    beginBackward(shared.keys, 1, shared.own);
    const Range block = blockOf(ranges);
    const int consumer = consumerOfWarp();
    const Span tiles = spanOfBoth(keysOf<LINES>(rowsOf(block, 0), heads), keysOf<LINES>(rowsOf(block, 1), heads));
    if (consumer < 0) {
      lowerRegisters<PRODUCER_REGISTERS>();
      if (threadIdx.x == 0) produce(shared, q, k, v, dOut, block, tiles, heads);
    } else {
      raiseRegisters<CONSUMER_REGISTERS>();
      consume(shared, logSumExp, delta, dq, block, consumer, tiles, rows, heads);
    }
  }

  static DEVICE void produce(Shared& shared, const TensorMap& q, const TensorMap& k, const TensorMap& v, const TensorMap& dOut, Range block,
                             Span tiles, Heads heads) {
    const int head = blockIdx.y, source = head / (heads.heads / heads.keyValueHeads);
    beginOwn<LINES>(shared.q, q, shared.dOut, dOut, head, block.first, shared.own);
    Turn<STAGES> turn;
    for (int tile = tiles.first; tile < tiles.end; tile++, turn.next()) {
      Barrier& full = shared.keys.full[turn.stage];
      waitUntilEmpty(shared.keys, turn);
      expectBytes(full, sizeof shared.k[0] + sizeof shared.v[0]);
      shared.k[turn.stage].begin(k, source, block.begin + tile * LINES, full);
      shared.v[turn.stage].begin(v, source, block.begin + tile * LINES, full);
    }
  }

  static DEVICE void consume(Shared& shared, const float* logSumExp, const float* delta, bf16* dq, Range block, int consumer,
                             Span tiles, int rows, Heads heads) {
    const Range own = rowsOf(block, consumer);
    const Span seen = keysOf<LINES>(own, heads), whole = keysSeenByAll<LINES>(own, heads);
    float logSum[2], ofRow[2];
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int query = ownRow(own) + half * 8;
      const uint64 at = static_cast<uint64>(blockIdx.y) * rows + query;
      logSum[half] = query < own.end ? logSumExp[at] : 0.0f;
      ofRow[half] = query < own.end ? delta[at] : 0.0f;
    }
    float dQueries[D / 2];
    Turn<STAGES> turn;
    waitFor(shared.own, 0);
    beginTurns(consumer);
    for (int tile = tiles.first; tile < tiles.end; tile++) {
      const int firstKey = own.begin + tile * LINES;
      Panels<LINES, D>&k = shared.k[turn.stage], &v = shared.v[turn.stage];
      waitUntilFull(shared.keys, turn);
      if (seen.has(tile)) {
        if (firstKey + LINES > own.end) clearOthers(k, consumer, own.end - firstKey);
        float weights[LINES / 2], gradients[LINES / 2];
        holdSums(weights);
        holdSums(gradients);
        takeTurn(consumer);
        beginProducts();
        multiplyRows<D, LINES>(weights, shared.q[consumer], k);
        multiplyRows<D, LINES>(gradients, shared.dOut[consumer], v);
        commitProducts();
        passTurn(consumer);
        waitForProducts<0>();
        holdSums(weights);
        holdSums(gradients);
        weigh(weights, gradients, logSum, ofRow, heads);
        if (!whole.has(tile)) {
          mask(gradients, 0.0f, firstKey, keysSeenBy(ownRow(own), own, heads), keysSeenBy(ownRow(own) + 8, own, heads));
        }
        FragmentA ofQueries[LINES / 16];
        operandsOf(ofQueries, gradients);
        takeTurn(consumer);
        holdSums(dQueries);
        beginProducts();
        addWeighted<D, LINES>(dQueries, ofQueries, k, tile > seen.first);
        commitProducts();
        passTurn(consumer);
        waitForProducts<0>();
        holdSums(dQueries);
      } else {
        leaveOutTurns(consumer);
      }
      giveBack(shared.keys, turn);
    }
    endTurns(consumer);
    if (own.first >= own.end) return;
    storeRows<D>(dq + blockIdx.y * heads.headDim, strideOf(heads.heads, heads), dQueries, heads.scale, own, heads.headDim);
  }

  /** Makes zeros of the keys of other documents in the last tile, which this consumer alone sees. */
  static DEVICE void clearOthers(Panels<LINES, D>& k, int consumer, int from) {
    k.clearFrom(from, placeInGroup(), WARPGROUP);
    publishWrites();
    syncThreads(CONSUMER_BARRIER + 1 + consumer, WARPGROUP);
  }

  /** Gradients of weights become those of scores, as if all were seen. Rows are queries. */
  static DEVICE void weigh(const float (&scores)[LINES / 2], float (&gradients)[LINES / 2], const float (&logSum)[2],
                           const float (&ofRow)[2], Heads heads) {
    UNROLL
    for (int i = 0; i < LINES / 2; i++) {
      const int half = i / 2 % 2;
      float slope;
      const float weight = weightOf<IS_CAPPED>(scores[i], slope, logSum[half], true, heads);
      gradients[i] = weight * (gradients[i] - ofRow[half]) * slope;
    }
  }
};
