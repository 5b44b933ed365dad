/**
 * The products of `expertProducts.cu` on Hopper, with the same bits. Rows of other segments do not enter a sum:
 *
 *  - Where rows are rows of the result, a tile that ends within brings others' rows, and what comes of them is not stored.
 *  - Where the sum goes over rows, those beyond the segment's end are overwritten by zeros before they are multiplied.
 *  - Matrices of experts are an axis of their own in the maps, beyond whose rows come zeros, not the next expert's.
 *
 * As many blocks as multiprocessors go through the tiles; `count` are those of rows, or segments.
 */
#include "hopperProduct.h"

/** Of each expert's rows: columns first, so that blocks at the same time share rows and a few matrices. */
template <int COLUMNS>
struct TilesOfRows {
  const int* tiles;
  int tileCount, N, K;

  DEVICE int across() const { return (N + COLUMNS - 1) / COLUMNS; }
  DEVICE int count() const { return tileCount * across(); }
  DEVICE ProductTile tile(int i) const {
    const int* const of = tiles + i / across() * 3;
    const int row = of[0], column = i % across() * COLUMNS;
    return {0, row, of[2], column, 0, K, static_cast<uint64>(row) * N + column, of[1] - row, N - column};
  }
};

/** Of the gradients of the experts' matrices, each summed over a segment's rows. */
template <int ROWS, int COLUMNS>
struct TilesOfGradients {
  const int* segments;
  int segmentCount, M, N, accumulate;

  DEVICE int across() const { return (N + COLUMNS - 1) / COLUMNS; }
  DEVICE int ofMatrix() const { return across() * ((M + ROWS - 1) / ROWS); }
  DEVICE int count() const { return segmentCount * ofMatrix(); }
  DEVICE ProductTile tile(int i) const {
    const int* const of = segments + i / ofMatrix() * 3;
    const int within = i % ofMatrix(), row = within / across() * ROWS, column = within % across() * COLUMNS;
    const uint64 at = (static_cast<uint64>(of[2]) * M + row) * N + column;
    // A product over no rows writes zeros; there is nothing to add.
    return {0, row, 0, column, of[0], of[1], at, accumulate && of[1] == 0 ? 0 : M - row, N - column};
  }
};

template <int COLUMNS, int RIGHT>
DEVICE void rowsOfExperts(const TensorMap& x, const TensorMap& weights, bf16* y, const int* tiles, int count, int N, int K) {
  using Block = HopperProduct<COLUMNS, ALONG, RIGHT>;
  Block::template run<false>(x, weights, y, TilesOfRows<COLUMNS>{tiles, count, N, K}, N, 0);
}

template <int COLUMNS>
DEVICE void gradientsOfExperts(const TensorMap& a, const TensorMap& b, float* y, const int* segments, int count, int M, int N,
                               int accumulate) {
  using Block = HopperProduct<COLUMNS, ACROSS, ACROSS>;
  Block::template run<true>(a, b, y, TilesOfGradients<Block::ROWS, COLUMNS>{segments, count, M, N, accumulate}, N, accumulate);
}

KERNEL(expertMatmulHopperSmall, 384, 1, TENSOR_MAP x, TENSOR_MAP weights, bf16* y, const int* tiles, int count, int N, int K) {
  rowsOfExperts<128, ALONG>(x, weights, y, tiles, count, N, K);
}
KERNEL(expertMatmulHopperLarge, 384, 1, TENSOR_MAP x, TENSOR_MAP weights, bf16* y, const int* tiles, int count, int N, int K) {
  rowsOfExperts<256, ALONG>(x, weights, y, tiles, count, N, K);
}
KERNEL(expertMatmulPlainHopperSmall, 384, 1, TENSOR_MAP x, TENSOR_MAP weights, bf16* y, const int* tiles, int count, int N, int K) {
  rowsOfExperts<128, ACROSS>(x, weights, y, tiles, count, N, K);
}
KERNEL(expertMatmulPlainHopperLarge, 384, 1, TENSOR_MAP x, TENSOR_MAP weights, bf16* y, const int* tiles, int count, int N, int K) {
  rowsOfExperts<256, ACROSS>(x, weights, y, tiles, count, N, K);
}
KERNEL(expertMatmulTransposedHopperSmall, 384, 1, TENSOR_MAP a, TENSOR_MAP b, float* y, const int* segments, int count, int M, int N,
       int accumulate) {
  gradientsOfExperts<128>(a, b, y, segments, count, M, N, accumulate);
}
KERNEL(expertMatmulTransposedHopperLarge, 384, 1, TENSOR_MAP a, TENSOR_MAP b, float* y, const int* segments, int count, int M, int N,
       int accumulate) {
  gradientsOfExperts<256>(a, b, y, segments, count, M, N, accumulate);
}
