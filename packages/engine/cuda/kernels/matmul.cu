/**
 * Products on tensor cores (mma.sync): bf16 operands, float sums. The left operand has M rows, the right one N, and they are summed
 * over K:
 *
 *   matmul              y [M, N]  = a [M, K] · b [N, K]ᵀ       a linear layer                    bf16
 *   matmulToFloat       the same                                logits                            float
 *   matmulPlain         y [M, N]  = a [M, K] · b [K, N]        the gradient of its input         bf16
 *   matmulTransposed    y [M, N] (+)= a [K, M]ᵀ · b [K, N]     the gradient of its weights       float
 *
 * The sum of every element goes over k from first to last in steps of 16, whatever M, N and the tile are: a row has the same bits in
 * any batch, and a tile of 64 gives those of a tile of 128.
 */
#include "product.h"

/** The grid: columns, then rows. */
template <typename Block, typename Out>
DEVICE void product(const bf16* a, const bf16* b, Out* y, int M, int N, int K, int accumulate) {
  Block::run(a, b, y, M, N, K, blockIdx.y * Block::SIZE, blockIdx.x * Block::SIZE, accumulate);
}

KERNEL(matmulSmall, 128, 3, const bf16* a, const bf16* b, bf16* y, int M, int N, int K) {
  product<Small<ALONG, ALONG>>(a, b, y, M, N, K, 0);
}
KERNEL(matmulLarge, 256, 1, const bf16* a, const bf16* b, bf16* y, int M, int N, int K) {
  product<Large<ALONG, ALONG>>(a, b, y, M, N, K, 0);
}
KERNEL(matmulToFloatSmall, 128, 3, const bf16* a, const bf16* b, float* y, int M, int N, int K) {
  product<Small<ALONG, ALONG>>(a, b, y, M, N, K, 0);
}
KERNEL(matmulToFloatLarge, 256, 1, const bf16* a, const bf16* b, float* y, int M, int N, int K) {
  product<Large<ALONG, ALONG>>(a, b, y, M, N, K, 0);
}
KERNEL(matmulPlainSmall, 128, 3, const bf16* a, const bf16* b, bf16* y, int M, int N, int K) {
  product<Small<ALONG, ACROSS>>(a, b, y, M, N, K, 0);
}
KERNEL(matmulPlainLarge, 256, 1, const bf16* a, const bf16* b, bf16* y, int M, int N, int K) {
  product<Large<ALONG, ACROSS>>(a, b, y, M, N, K, 0);
}
KERNEL(matmulTransposedSmall, 128, 3, const bf16* a, const bf16* b, float* y, int M, int N, int K, int accumulate) {
  product<Small<ACROSS, ACROSS>>(a, b, y, M, N, K, accumulate);
}
KERNEL(matmulTransposedLarge, 256, 1, const bf16* a, const bf16* b, float* y, int M, int N, int K, int accumulate) {
  product<Large<ACROSS, ACROSS>>(a, b, y, M, N, K, accumulate);
}
