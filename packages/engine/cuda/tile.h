/** Tiles of matrices in shared memory, as operands of `mma`. */
#pragma once

#include "device.h"

/**
 * `LINES` rows of `LENGTH` values, 32, 64 or 128, as they lie in global memory. Rows are cut into chunks of 8 values, which are permuted
 * so that the same chunk of eight rows never shares a bank.
 */
template <int LINES, int LENGTH>
struct Tile {
  static constexpr int CHUNKS = LENGTH / 8;
  static_assert(CHUNKS == 4 || CHUNKS % 8 == 0, "rows of 64 bytes, or of whole rounds of the banks");
  alignas(128) bf16 values[LINES][LENGTH];

  DEVICE bf16* at(int line, int place) {
    const int turn = CHUNKS == 4 ? line / 2 & 3 : line & 7;
    return &values[line][((place / 8) ^ turn) * 8];
  }

  /**
   * Begins to copy the tile that begins at `line` and `place` of a matrix with `lines` of `length` values each, `stride` apart; zeros
   * beyond its end. `length` is a multiple of 8.
   */
  template <int THREADS>
  DEVICE void begin(const bf16* from, uint64 stride, int line, int lines, int place, int length) {
    UNROLL
    for (int i = threadIdx.x; i < LINES * CHUNKS; i += THREADS) {
      const int l = i / CHUNKS, p = i % CHUNKS * 8;
      const bool isThere = line + l < lines && place + p < length;
      beginCopy(at(l, p), isThere ? from + (line + l) * stride + place + p : from, isThere);
    }
  }

  /** Sixteen lines by sixteen places as a left operand: lines are its rows. */
  DEVICE FragmentA left(int line, int place) {
    const int lane = threadIdx.x % 32;
    return fragment(loadMatrices(at(line + lane % 16, place + lane / 16 * 8)));
  }
  /** The same, transposed: places are its rows. */
  DEVICE FragmentA leftTransposed(int line, int place) {
    const int lane = threadIdx.x % 32;
    return fragment(loadMatricesTransposed(at(line + lane / 16 * 8 + lane % 8, place + lane / 8 % 2 * 8)));
  }
  /** Sixteen lines by sixteen places as two right operands of eight columns: lines are columns, places are summed over. */
  DEVICE void right(FragmentB& first, FragmentB& second, int line, int place) {
    const int lane = threadIdx.x % 32;
    split(loadMatrices(at(line + lane / 16 * 8 + lane % 8, place + lane / 8 % 2 * 8)), first, second);
  }
  /** The same, transposed: places are columns, lines are summed over. */
  DEVICE void rightTransposed(FragmentB& first, FragmentB& second, int line, int place) {
    const int lane = threadIdx.x % 32;
    split(loadMatricesTransposed(at(line + lane % 16, place + lane / 16 * 8)), first, second);
  }

 private:
  static DEVICE FragmentA fragment(Matrices m) { return {{m.r[0], m.r[1], m.r[2], m.r[3]}}; }
  static DEVICE void split(Matrices m, FragmentB& first, FragmentB& second) {
    first = {{m.r[0], m.r[1]}};
    second = {{m.r[2], m.r[3]}};
  }
};

/** What two products left in a lane is its part of one left operand. */
DEVICE FragmentA operandOf(const FragmentC& near, const FragmentC& far) {
  return {{packBf16(near.v[0], near.v[1]), packBf16(near.v[2], near.v[3]), packBf16(far.v[0], far.v[1]), packBf16(far.v[2], far.v[3])}};
}

template <int COUNT>
DEVICE void clear(FragmentC (&sums)[COUNT]) {
  UNROLL
  for (int j = 0; j < COUNT; j++) sums[j] = {{0, 0, 0, 0}};
}
