/**
 * Products on Hopper: what `matmulHopper.cu` and `expertProductsHopper.cu` share. A block of three warpgroups goes through tiles of the
 * result, 128 rows by COLUMNS each: one thread of the first has the copy engine fill a ring of stages with 64 steps of k, two multiply 64
 * rows each, and store them while the ring is filled for the next tile.
 *
 * The sum of every element goes over k from first to last in steps of 16, as in `product.h`, and has the same bits.
 */
#pragma once

#include "hopper.h"

/** A tile of a product: where its rows, its columns and its k begin in the maps of the operands, and what it has of the result. */
struct ProductTile {
  int leftMatrix, leftRow, rightMatrix, rightRow, firstK, depth;
  /** Of its first element. */
  uint64 at;
  /** Rows and columns from there to the result's end; no rows where there is nothing to do. */
  int rows, columns;
};

/** A stage of the ring, and the parity of its phase. */
template <int STAGES>
struct RingPlace {
  int stage = 0, parity = 0;

  DEVICE void next() {
    if (++stage < STAGES) return;
    stage = 0;
    parity ^= 1;
  }
};

/** Word i of lane l of four becomes word l of lane i. */
DEVICE void transposeQuad(uint32 (&words)[4]) {
  const bool isOdd = threadIdx.x & 1, isUpper = threadIdx.x & 2;
  UNROLL
  for (int i = 0; i < 4; i += 2) {
    const uint32 got = __shfl_xor_sync(0xffffffffu, isOdd ? words[i] : words[i + 1], 1);
    (isOdd ? words[i] : words[i + 1]) = got;
  }
  UNROLL
  for (int i = 0; i < 2; i++) {
    const uint32 got = __shfl_xor_sync(0xffffffffu, isUpper ? words[i] : words[i + 2], 2);
    (isUpper ? words[i] : words[i + 2]) = got;
  }
}

struct alignas(8) FloatPair {
  float first, second;
};

template <int COLUMNS, int LEFT, int RIGHT>
struct HopperProduct {
  static constexpr int ROWS = 128, CONSUMERS = 2, THREADS = (1 + CONSUMERS) * WARPGROUP, STAGES = COLUMNS == 256 ? 4 : 6;
  static constexpr int PANEL_VALUES = PANEL * PANEL, PANEL_BYTES = 2 * PANEL_VALUES;
  static constexpr uint32 STAGE_BYTES = (ROWS + COLUMNS) * PANEL * 2;
  /** Of the consumers among themselves. */
  static constexpr int BARRIER = 1;

  struct Shared {
    /** Rows of 64 k each; or, across k, panels of 64 rows: 64 k of them each. */
    alignas(1024) bf16 left[STAGES][ROWS * PANEL];
    alignas(1024) bf16 right[STAGES][COLUMNS * PANEL];
    Barrier full[STAGES], empty[STAGES];
  };

  /** Tiles are `work.tile(i)` for i below `work.count()`; the result's rows are `width` values apart. */
  template <bool ENDS_WITHIN, typename Work, typename Out>
  static DEVICE void run(const TensorMap& left, const TensorMap& right, Out* y, const Work& work, int width, int accumulate) {
    Shared& shared = sharedMemory<Shared>();
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < STAGES; stage++) {
        initialize(shared.full[stage], 1);
        initialize(shared.empty[stage], CONSUMERS);
      }
      publishBarriers();
    }
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
      lowerRegisters<40>();
      if (threadIdx.x == 0) produce(shared, left, right, work);
    } else {
      raiseRegisters<232>();
      consume<ENDS_WITHIN>(shared, y, work, width, accumulate);
    }
  }

 private:
  /** Of a sum over nothing there is one as well, of zeros. */
  static DEVICE int stepsOf(const ProductTile& tile) { return tile.depth > PANEL ? (tile.depth + PANEL - 1) / PANEL : 1; }

  /** `LINES` rows of an operand by 64 k. */
  template <int LINES, int LAYOUT>
  static DEVICE void bring(bf16* to, const TensorMap& map, int row, int k, int matrix, Barrier& barrier) {
    if constexpr (LAYOUT == ALONG) {
      beginTile(to, map, k, row, matrix, barrier);
    } else {
      UNROLL
      for (int panel = 0; panel < LINES / PANEL; panel++) beginTile(to + panel * PANEL_VALUES, map, row + panel * PANEL, k, matrix, barrier);
    }
  }

  template <typename Work>
  static DEVICE void produce(Shared& shared, const TensorMap& left, const TensorMap& right, const Work& work) {
    RingPlace<STAGES> place;
    for (int i = blockIdx.x; i < work.count(); i += gridDim.x) {
      const ProductTile tile = work.tile(i);
      if (tile.rows <= 0) continue;
      const int steps = stepsOf(tile);
      NO_UNROLL
      for (int step = 0; step < steps; step++, place.next()) {
        Barrier& full = shared.full[place.stage];
        waitFor(shared.empty[place.stage], place.parity ^ 1);
        expectBytes(full, STAGE_BYTES);
        const int k = tile.firstK + step * PANEL;
        bring<ROWS, LEFT>(shared.left[place.stage], left, tile.leftRow, k, tile.leftMatrix, full);
        bring<COLUMNS, RIGHT>(shared.right[place.stage], right, tile.rightRow, k, tile.rightMatrix, full);
      }
    }
  }

  template <bool ENDS_WITHIN, typename Work, typename Out>
  static DEVICE void consume(Shared& shared, Out* y, const Work& work, int width, int accumulate) {
    const int group = threadIdx.x / WARPGROUP - 1;
    const bool isFirst = threadIdx.x % WARPGROUP == 0;
    RingPlace<STAGES> place;
    for (int i = blockIdx.x; i < work.count(); i += gridDim.x) {
      const ProductTile tile = work.tile(i);
      if (tile.rows <= 0) continue;
      const int steps = stepsOf(tile);
      float sums[COLUMNS / 2];
      int before = 0;
      NO_UNROLL
      for (int step = 0; step < steps; step++, before = place.stage, place.next()) {
        waitFor(shared.full[place.stage], place.parity);
        if constexpr (ENDS_WITHIN) zeroBeyond(shared, place.stage, tile.depth - step * PANEL);
        bf16* const own = shared.left[place.stage] + group * PANEL_VALUES;
        const uint64 a = LEFT == ALONG ? operandAlong(own) : operandAcross(own, PANEL_BYTES);
        const uint64 b = RIGHT == ALONG ? operandAlong(shared.right[place.stage]) : operandAcross(shared.right[place.stage], PANEL_BYTES);
        holdSums(sums);
        beginProducts();
        UNROLL
        for (int k = 0; k < PANEL / 16; k++) multiplyTiles<LEFT, RIGHT>(sums, a + k * STEP<LEFT>, b + k * STEP<RIGHT>, step > 0 || k > 0);
        commitProducts();
        // Those of the stage before are done, so that it may be filled again.
        waitForProducts<1>();
        holdSums(sums);
        if (isFirst && step > 0) arrive(shared.empty[before]);
      }
      waitForProducts<0>();
      holdSums(sums);
      if (isFirst) arrive(shared.empty[before]);
      store(y + tile.at, sums, group * 64, tile, width, accumulate);
    }
  }

  /**
   * The k of a stage from `there` on are others' rows, both operands', which must not enter a sum, not even times zero: they may be no
   * numbers. Both operands lie across k.
   */
  static DEVICE void zeroBeyond(Shared& shared, int stage, int there) {
    if (there >= PANEL) return;
    constexpr int PACKS = PANEL / 8, PANELS_LEFT = ROWS / PANEL, PANELS = PANELS_LEFT + COLUMNS / PANEL;
    const int ofPanel = (PANEL - there) * PACKS;
    for (int i = threadIdx.x - WARPGROUP; i < PANELS * ofPanel; i += CONSUMERS * WARPGROUP) {
      const int panel = i / ofPanel, at = there * PANEL + i % ofPanel * 8;
      bf16* const to = panel < PANELS_LEFT ? shared.left[stage] + panel * PANEL_VALUES : shared.right[stage] + (panel - PANELS_LEFT) * PANEL_VALUES;
      packAt(to + at) = Pack<bf16>{};
    }
    publishWrites();
    syncThreads(BARRIER, CONSUMERS * WARPGROUP);
  }

  /** Eight columns of a row at a time: four lanes have the pairs of four times eight columns. */
  static DEVICE void store(bf16* y, const float (&sums)[COLUMNS / 2], int firstRow, const ProductTile& tile, int width, int) {
    const int lane = threadIdx.x % 32;
    const bool isPacked = width % 8 == 0;
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int row = firstRow + threadIdx.x % WARPGROUP / 32 * 16 + half * 8 + lane / 4;
      bf16* const to = y + static_cast<uint64>(row) * width;
      UNROLL
      for (int j = 0; j < COLUMNS / 8; j += 4) {
        uint32 words[4];
        UNROLL
        for (int i = 0; i < 4; i++) words[i] = packBf16(sums[(j + i) * 4 + 2 * half], sums[(j + i) * 4 + 2 * half + 1]);
        transposeQuad(words);
        const int column = j * 8 + lane % 4 * 8;
        if (row >= tile.rows || column >= tile.columns) continue;
        if (isPacked) {
          *reinterpret_cast<Pack<uint32>*>(aligned(to + column, 16)) = {{words[0], words[1], words[2], words[3]}};
        } else {
          UNROLL
          for (int i = 0; i < 8; i++) {
            if (column + i < tile.columns) to[column + i] = {static_cast<uint16>(words[i / 2] >> 16 * (i % 2))};
          }
        }
      }
    }
  }
  static DEVICE void store(float* y, const float (&sums)[COLUMNS / 2], int firstRow, const ProductTile& tile, int width, int accumulate) {
    const int lane = threadIdx.x % 32;
    const bool isPacked = width % 2 == 0;
    UNROLL
    for (int half = 0; half < 2; half++) {
      const int row = firstRow + threadIdx.x % WARPGROUP / 32 * 16 + half * 8 + lane / 4;
      if (row >= tile.rows) continue;
      float* const to = y + static_cast<uint64>(row) * width;
      UNROLL
      for (int j = 0; j < COLUMNS / 8; j++) {
        const int column = j * 8 + lane % 4 * 2;
        const float first = sums[j * 4 + 2 * half], second = sums[j * 4 + 2 * half + 1];
        if (column >= tile.columns) continue;
        if (isPacked) {
          FloatPair& pair = *reinterpret_cast<FloatPair*>(aligned(to + column, 8));
          const FloatPair old = accumulate ? pair : FloatPair{0, 0};
          pair = accumulate ? FloatPair{old.first + first, old.second + second} : FloatPair{first, second};
        } else {
          to[column] = accumulate ? to[column] + first : first;
          if (column + 1 < tile.columns) to[column + 1] = accumulate ? to[column + 1] + second : second;
        }
      }
    }
  }
};
