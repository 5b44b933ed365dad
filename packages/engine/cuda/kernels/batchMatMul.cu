/**
 * TensorFlow.js's matrix product, in single precision: y [batch, M, N] = a · b, of matrices with any steps. Each sum goes over k from
 * first to last, one rounding a step. A block has a tile of 16 by 16. What models are made of goes by `matmul.cu`.
 */
#include "stock.h"

constexpr int EDGE = 16, THREADS = 256;

struct Shared {
  // One more, so that a column lies in different banks.
  float a[EDGE][EDGE + 1], b[EDGE][EDGE + 1];
};

struct Product {
  int M, N, K;
  /** Steps along a matrix's two axes: rows and k, k and columns. */
  int aRow, aDepth, bDepth, bColumn;
  /** Storages. */
  int a, b, y;
};

/** @param batches where the matrices of a batch begin in a and b */
KERNEL(batchMatMul, THREADS, 4, const void* a, const void* b, void* y, Product of, int count, Layout2 batches) {
  Shared& shared = sharedMemory<Shared>();
  const int column = static_cast<int>(threadIdx.x) % EDGE, row = static_cast<int>(threadIdx.x) / EDGE;
  const int m = static_cast<int>(blockIdx.x) * EDGE + row, n = static_cast<int>(blockIdx.y) * EDGE + column;
  for (int batch = static_cast<int>(blockIdx.z); batch < count; batch += static_cast<int>(gridDim.z)) {
    long long begins[2] = {0, 0};
    locate(batches, static_cast<uint32>(batch), begins);
    float sum = 0.0f;
    for (int k = 0; k < of.K; k += EDGE) {
      const bool hasA = m < of.M && k + column < of.K, hasB = n < of.N && k + row < of.K;
      const long long atA = begins[0] + static_cast<long long>(m) * of.aRow + static_cast<long long>(k + column) * of.aDepth;
      const long long atB = begins[1] + static_cast<long long>(k + row) * of.bDepth + static_cast<long long>(n) * of.bColumn;
      shared.a[row][column] = hasA ? loadFloat(a, of.a, atA) : 0.0f;
      shared.b[row][column] = hasB ? loadFloat(b, of.b, atB) : 0.0f;
      __syncthreads();
      const int depth = of.K - k < EDGE ? of.K - k : EDGE;
      for (int i = 0; i < depth; i++) sum = __fmaf_rn(shared.a[row][i], shared.b[i][column], sum);
      __syncthreads();
    }
    if (m < of.M && n < of.N) storeFloat(y, of.y, (static_cast<uint64>(batch) * of.M + m) * of.N + n, sum);
  }
}
