/**
 * Products of many experts in one launch (mma.sync). A segment is rows of one expert, from one source: rows of x with that expert's
 * matrix. Shapes: E experts, M rows, segment after segment.
 *
 *   expertMatmul            y [M, N]     = x [M, K] · weights [E, N, K]ᵀ                     bf16
 *   expertMatmulPlain       y [M, N]     = x [M, K] · weights [E, K, N]                      bf16
 *   expertMatmulTransposed  y [E, M, N] (+)= a [rows, M]ᵀ · b [rows, N] of each segment      float
 *
 * A segment's products are its own: tiles begin at its first row, and the sums over its rows at its first. So each has the bits that
 * `matmul.cu` gives for the segment alone.
 */
#include "product.h"

/**
 * The grid: columns, then tiles of rows, of which each has its first row, the row before which its segment ends, and its expert. There may
 * be tiles without rows, where the host does not know how many are needed.
 */
template <typename Block>
DEVICE void rowsOfExperts(const bf16* x, const bf16* weights, bf16* y, const int* tiles, int N, int K) {
  const int first = tiles[3 * blockIdx.y], end = tiles[3 * blockIdx.y + 1];
  if (first >= end) return;
  const uint64 expert = tiles[3 * blockIdx.y + 2], row = first, size = static_cast<uint64>(N) * K;
  Block::run(x + row * K, weights + expert * size, y + row * N, end - first, N, K, 0, blockIdx.x * Block::SIZE, 0);
}

/** The grid: columns, rows, then segments, of which each has its first row, its number of rows, and its expert. */
template <typename Block>
DEVICE void gradientsOfExperts(const bf16* a, const bf16* b, float* y, const int* segments, int M, int N, int accumulate) {
  const uint64 begin = segments[3 * blockIdx.z], expert = segments[3 * blockIdx.z + 2], size = static_cast<uint64>(M) * N;
  const int count = segments[3 * blockIdx.z + 1];
  // A product over no rows writes zeros; there is nothing to add.
  if (accumulate && count == 0) return;
  Block::run(a + begin * M, b + begin * N, y + expert * size, M, N, count, blockIdx.y * Block::SIZE,
            blockIdx.x * Block::SIZE, accumulate);
}

KERNEL(expertMatmulSmall, 128, 3, const bf16* x, const bf16* weights, bf16* y, const int* tiles, int N, int K) {
  rowsOfExperts<Small<ALONG, ALONG>>(x, weights, y, tiles, N, K);
}
KERNEL(expertMatmulLarge, 256, 1, const bf16* x, const bf16* weights, bf16* y, const int* tiles, int N, int K) {
  rowsOfExperts<Large<ALONG, ALONG>>(x, weights, y, tiles, N, K);
}
KERNEL(expertMatmulPlainSmall, 128, 3, const bf16* x, const bf16* weights, bf16* y, const int* tiles, int N, int K) {
  rowsOfExperts<Small<ALONG, ACROSS>>(x, weights, y, tiles, N, K);
}
KERNEL(expertMatmulPlainLarge, 256, 1, const bf16* x, const bf16* weights, bf16* y, const int* tiles, int N, int K) {
  rowsOfExperts<Large<ALONG, ACROSS>>(x, weights, y, tiles, N, K);
}
KERNEL(expertMatmulTransposedSmall, 128, 3, const bf16* a, const bf16* b, float* y, const int* segments, int M, int N, int accumulate) {
  gradientsOfExperts<Small<ACROSS, ACROSS>>(a, b, y, segments, M, N, accumulate);
}
KERNEL(expertMatmulTransposedLarge, 256, 1, const bf16* a, const bf16* b, float* y, const int* segments, int M, int N, int accumulate) {
  gradientsOfExperts<Large<ACROSS, ACROSS>>(a, b, y, segments, M, N, accumulate);
}
