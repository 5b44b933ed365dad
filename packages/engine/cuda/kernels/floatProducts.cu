/**
 * Products in single precision, in place of those of `matmul.cu` and `expertProducts.cu`, with any widths. They have the bits of `native`.
 *
 *   matmulFloat                  y [M, N]     = a [M, K] · b [N, K]ᵀ
 *   matmulPlainFloat             y [M, N]     = a [M, K] · b [K, N]
 *   matmulTransposedFloat        y [M, N]   (+)= a [K, M]ᵀ · b [K, N]
 *   expertMatmulFloat            y [M, N]     = x [M, K] · weights [E, N, K]ᵀ                   each segment by itself
 *   expertMatmulPlainFloat       y [M, N]     = x [M, K] · weights [E, K, N]
 *   expertMatmulTransposedFloat  y [E, M, N] (+)= a [rows, M]ᵀ · b [rows, N] of each segment
 */
#include "floatProduct.h"

/** The grid: columns, then rows. */
template <int LEFT, int RIGHT>
DEVICE void product(const float* a, const float* b, float* y, int M, int N, int K, int accumulate) {
  FloatProduct<LEFT, RIGHT>::run(a, b, y, M, N, K, blockIdx.y * EDGE, blockIdx.x * EDGE, accumulate);
}

/** The grid: columns, then tiles of rows, as `expertProducts.cu` has them. */
template <int RIGHT>
DEVICE void rowsOfExperts(const float* x, const float* weights, float* y, const int* tiles, int N, int K) {
  const int first = tiles[3 * blockIdx.y], end = tiles[3 * blockIdx.y + 1];
  if (first >= end) return;
  const uint64 expert = tiles[3 * blockIdx.y + 2], row = first, size = static_cast<uint64>(N) * K;
  FloatProduct<ALONG, RIGHT>::run(x + row * K, weights + expert * size, y + row * N, end - first, N, K, 0, blockIdx.x * EDGE, 0);
}

KERNEL(matmulFloat, PRODUCT_THREADS, 3, const float* a, const float* b, float* y, int M, int N, int K) {
  product<ALONG, ALONG>(a, b, y, M, N, K, 0);
}
KERNEL(matmulPlainFloat, PRODUCT_THREADS, 3, const float* a, const float* b, float* y, int M, int N, int K) {
  product<ALONG, ACROSS>(a, b, y, M, N, K, 0);
}
KERNEL(matmulTransposedFloat, PRODUCT_THREADS, 3, const float* a, const float* b, float* y, int M, int N, int K, int accumulate) {
  product<ACROSS, ACROSS>(a, b, y, M, N, K, accumulate);
}
KERNEL(expertMatmulFloat, PRODUCT_THREADS, 3, const float* x, const float* weights, float* y, const int* tiles, int N, int K) {
  rowsOfExperts<ALONG>(x, weights, y, tiles, N, K);
}
KERNEL(expertMatmulPlainFloat, PRODUCT_THREADS, 3, const float* x, const float* weights, float* y, const int* tiles, int N, int K) {
  rowsOfExperts<ACROSS>(x, weights, y, tiles, N, K);
}
/** The grid: columns, rows, then segments, as `expertProducts.cu` has them. */
KERNEL(expertMatmulTransposedFloat, PRODUCT_THREADS, 3, const float* a, const float* b, float* y, const int* segments, int M, int N,
       int accumulate) {
  const uint64 begin = segments[3 * blockIdx.z], expert = segments[3 * blockIdx.z + 2], size = static_cast<uint64>(M) * N;
  const int count = segments[3 * blockIdx.z + 1];
  // A product over no rows writes zeros; there is nothing to add.
  if (accumulate && count == 0) return;
  FloatProduct<ACROSS, ACROSS>::run(a + begin * M, b + begin * N, y + expert * size, M, N, count, blockIdx.y * EDGE, blockIdx.x * EDGE,
                                    accumulate);
}
