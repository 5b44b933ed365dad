/**
 * Gated causal attention on Hopper, forward: what `attentionForward.h` computes, with its bits. A consumer's products of the next tile's
 * scores and of this tile's weights with their values run beside the next tile's exponentials, as in FlashAttention-3 (Shah et al., 2024).
 */
#pragma once

#include "attentionHopper.h"

template <int D, bool IS_CAPPED = false>
struct AttentionHopper {
  static constexpr int STAGES = D > 128 ? 2 : 4;
  /** Of each thread, out of 168 that the block has for each. */
  static constexpr int PRODUCER_REGISTERS = 24, CONSUMER_REGISTERS = 240;

  struct Shared {
    Panels<ROWS, D> q[CONSUMERS], k[STAGES], v[STAGES];
    Ring<STAGES> keys, values;
    Barrier queries;
  };

  static DEVICE void run(const TensorMap& q, const TensorMap& k, const TensorMap& v, const bf16* gate, bf16* y, float* logSumExp,
                         const int* ranges, int rows, Heads heads) {
    Shared& shared = sharedMemory<Shared>();
    if (threadIdx.x == 0) {
      shared.keys.begin(1);
      shared.values.begin(1);
      initialize(shared.queries, 1);
      publishBarriers();
    }
    __syncthreads();
    const Range block = blockOf(ranges);
    const int consumer = consumerOfWarp();
    const Span tiles = spanOfBoth(keysOf<ROWS>(rowsOf(block, 0), heads), keysOf<ROWS>(rowsOf(block, 1), heads));
    if (consumer < 0) {
      lowerRegisters<PRODUCER_REGISTERS>();
      if (threadIdx.x == 0) produce(shared, q, k, v, block, tiles, heads);
    } else {
      raiseRegisters<CONSUMER_REGISTERS>();
      consume(shared, {gate, y, logSumExp, rows}, block, consumer, tiles, heads);
    }
  }

  static DEVICE void produce(Shared& shared, const TensorMap& q, const TensorMap& k, const TensorMap& v, Range block, Span tiles,
                             Heads heads) {
    const int head = blockIdx.y, source = head / (heads.heads / heads.keyValueHeads);
    expectBytes(shared.queries, sizeof shared.q);
    for (int i = 0; i < CONSUMERS; i++) shared.q[i].begin(q, head, block.first + i * ROWS, shared.queries);
    Turn<STAGES> turn;
    for (int tile = tiles.first; tile < tiles.end; tile++, turn.next()) {
      const int key = block.begin + tile * ROWS, stage = turn.stage;
      waitUntilEmpty(shared.keys, turn);
      expectBytes(shared.keys.full[stage], sizeof shared.k[stage]);
      shared.k[stage].begin(k, source, key, shared.keys.full[stage]);
      waitUntilEmpty(shared.values, turn);
      expectBytes(shared.values.full[stage], sizeof shared.v[stage]);
      shared.v[stage].begin(v, source, key, shared.values.full[stage]);
    }
  }

  static DEVICE void consume(Shared& shared, AttentionOutput to, Range block, int consumer, Span tiles, Heads heads) {
    const Range own = rowsOf(block, consumer);
    const Span seen = keysOf<ROWS>(own, heads), whole = keysSeenByAll<ROWS>(own, heads);
    Turn<STAGES> keys, values;
    int tile = tiles.first;
    const auto leaveOut = [&] {
      waitUntilFull(shared.keys, keys);
      giveBack(shared.keys, keys);
      waitUntilFull(shared.values, values);
      giveBack(shared.values, values);
      tile++;
    };
    while (tile < tiles.end && !seen.has(tile)) leaveOut();

    if (seen.count() > 0) {
      Softmax of;
      float scores[ROWS / 2], out[D / 2];
      FragmentA weights[ROWS / 16];
      const auto beginScores = [&] {
        waitUntilFull(shared.keys, keys);
        holdSums(scores);
        beginProducts();
        multiplyRows<D, ROWS>(scores, shared.q[consumer], shared.k[keys.stage]);
        commitProducts();
      };
      const auto beginOut = [&] {
        waitUntilFull(shared.values, values);
        clearOthers(shared.v[values.stage], consumer, own, own.begin + tile * ROWS);
        holdSums(out);
        beginProducts();
        addWeighted<D, ROWS>(out, weights, shared.v[values.stage], tile > seen.first);
        commitProducts();
      };
      waitFor(shared.queries, 0);
      beginScores();
      waitForProducts<0>();
      holdSums(scores);
      giveBack(shared.keys, keys);
      weigh(scores, of, whole.has(tile), own, own.begin + tile * ROWS, heads);
      operandsOf(weights, scores);
      NO_UNROLL
      for (; tile + 1 < seen.end; tile++) {
        beginScores();
        beginOut();
        waitForProducts<1>();
        holdSums(scores);
        giveBack(shared.keys, keys);
        weigh(scores, of, whole.has(tile + 1), own, own.begin + (tile + 1) * ROWS, heads);
        waitForProducts<0>();
        holdSums(out);
        giveBack(shared.values, values);
        // In most tiles no row has a larger score than before, and a factor of 1 changes nothing.
        if (__any_sync(0xffffffffu, of.shrink[0] != 1.0f || of.shrink[1] != 1.0f)) {
          UNROLL
          for (int i = 0; i < D / 2; i++) out[i] *= of.shrink[i / 2 % 2];
        }
        operandsOf(weights, scores);
      }
      beginOut();
      waitForProducts<0>();
      holdSums(out);
      giveBack(shared.values, values);
      tile++;
      store(out, of, to, own, heads);
    }
    while (tile < tiles.end) leaveOut();
  }

  /**
   * Makes zeros of the values of other documents in the last tile: a weight of 0 does not undo what is no number. This consumer alone
   * sees that tile.
   */
  static DEVICE void clearOthers(Panels<ROWS, D>& values, int consumer, Range own, int firstKey) {
    if (firstKey + ROWS <= own.end) return;
    values.clearFrom(own.end - firstKey, placeInGroup(), WARPGROUP);
    publishWrites();
    syncThreads(CONSUMER_BARRIER + 1 + consumer, WARPGROUP);
  }

  /** Scores of keys from `firstKey` on become their exponentials. @param isWhole whether all rows see all of these keys */
  static DEVICE void weigh(float (&scores)[ROWS / 2], Softmax& of, bool isWhole, Range own, int firstKey, Heads heads) {
    UNROLL
    for (int i = 0; i < ROWS / 2; i++) scores[i] = exponentOf<IS_CAPPED>(scores[i], heads);
    if (!isWhole) {
      mask(scores, lowestExponent(), firstKey, keysSeenBy(ownRow(own), own, heads), keysSeenBy(ownRow(own) + 8, own, heads));
    }
    UNROLL
    for (int half = 0; half < 2; half++) of.weigh(half, [&](int j, int i) -> float& { return scores[4 * j + 2 * half + i]; });
  }

  static DEVICE void store(const float (&out)[D / 2], const Softmax& of, AttentionOutput to, Range own, Heads heads) {
    UNROLL
    for (int half = 0; half < 2; half++) {
      const auto sums = [&](int j, int i) { return out[4 * j + 2 * half + i]; };
      storeOutput<D>(to, of, half, ownRow(own) + half * 8, own.end, sums, heads);
    }
  }
};
