/**
 * The products of `matmul.cu` on Hopper, by the copy engine and warpgroups, with the same bits. Maps of the operands have boxes of 64 k by
 * as many rows as a tile has, or, of an operand across k, 64 rows by 64 k.
 *
 * As many blocks as multiprocessors go through the tiles. Those that are worked on at the same time lie in columns of `TOGETHER` tiles, so
 * that the operands of one wave, some 4,000 rows of both together, stay in the second level cache.
 */
#include "hopperProduct.h"

constexpr int TOGETHER = 16;

template <int ROWS, int COLUMNS>
struct TilesOfMatrix {
  int M, N, K;

  DEVICE int down() const { return (M + ROWS - 1) / ROWS; }
  DEVICE int across() const { return (N + COLUMNS - 1) / COLUMNS; }
  DEVICE int count() const { return down() * across(); }
  DEVICE ProductTile tile(int i) const {
    const int first = i / (TOGETHER * across()) * TOGETHER, within = i - first * across();
    const int height = down() - first < TOGETHER ? down() - first : TOGETHER;
    const int row = (first + within % height) * ROWS, column = within / height * COLUMNS;
    return {0, row, 0, column, 0, K, static_cast<uint64>(row) * N + column, M - row, N - column};
  }
};

template <int COLUMNS, int LEFT, int RIGHT, typename Out>
DEVICE void product(const TensorMap& a, const TensorMap& b, Out* y, int M, int N, int K, int accumulate) {
  using Block = HopperProduct<COLUMNS, LEFT, RIGHT>;
  Block::template run<false>(a, b, y, TilesOfMatrix<Block::ROWS, COLUMNS>{M, N, K}, N, accumulate);
}

KERNEL(matmulHopperSmall, 384, 1, TENSOR_MAP a, TENSOR_MAP b, bf16* y, int M, int N, int K) {
  product<128, ALONG, ALONG>(a, b, y, M, N, K, 0);
}
KERNEL(matmulHopperLarge, 384, 1, TENSOR_MAP a, TENSOR_MAP b, bf16* y, int M, int N, int K) {
  product<256, ALONG, ALONG>(a, b, y, M, N, K, 0);
}
KERNEL(matmulToFloatHopperSmall, 384, 1, TENSOR_MAP a, TENSOR_MAP b, float* y, int M, int N, int K) {
  product<128, ALONG, ALONG>(a, b, y, M, N, K, 0);
}
KERNEL(matmulToFloatHopperLarge, 384, 1, TENSOR_MAP a, TENSOR_MAP b, float* y, int M, int N, int K) {
  product<256, ALONG, ALONG>(a, b, y, M, N, K, 0);
}
KERNEL(matmulPlainHopperSmall, 384, 1, TENSOR_MAP a, TENSOR_MAP b, bf16* y, int M, int N, int K) {
  product<128, ALONG, ACROSS>(a, b, y, M, N, K, 0);
}
KERNEL(matmulPlainHopperLarge, 384, 1, TENSOR_MAP a, TENSOR_MAP b, bf16* y, int M, int N, int K) {
  product<256, ALONG, ACROSS>(a, b, y, M, N, K, 0);
}
KERNEL(matmulTransposedHopperSmall, 384, 1, TENSOR_MAP a, TENSOR_MAP b, float* y, int M, int N, int K, int accumulate) {
  product<128, ACROSS, ACROSS>(a, b, y, M, N, K, accumulate);
}
KERNEL(matmulTransposedHopperLarge, 384, 1, TENSOR_MAP a, TENSOR_MAP b, float* y, int M, int N, int K, int accumulate) {
  product<256, ACROSS, ACROSS>(a, b, y, M, N, K, accumulate);
}
