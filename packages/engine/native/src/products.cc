// Matrix products for JavaScript: one, or a batch of equal ones.

#include "addon.h"
#include "gemm.h"
#include "parallel.h"

namespace sluice {

static size_t extent(size_t rows, size_t columns, size_t stride) {
  return rows == 0 || columns == 0 ? 0 : (rows - 1) * stride + columns;
}

/// matrixProduct(a, b, c, rows, columns, depth, transposeA, transposeB, beta, aStride, bStride, cStride):
/// C[rows×columns] = beta·C + op(A)·op(B).
static double matrixProduct(const Arguments& args) {
  const size_t rows = args.size(3), columns = args.size(4), depth = args.size(5);
  const bool transposeA = args.boolean(6), transposeB = args.boolean(7);
  const float beta = static_cast<float>(args.number(8));
  const size_t aStride = args.size(9), bStride = args.size(10), cStride = args.size(11);
  const float* a = args.floats(0, transposeA ? extent(depth, rows, aStride) : extent(rows, depth, aStride));
  const float* b = args.floats(1, transposeB ? extent(columns, depth, bStride) : extent(depth, columns, bStride));
  float* c = args.floats(2, extent(rows, columns, cStride));
  multiplyShared({a, aStride, transposeA}, {b, bStride, transposeB}, beta, c, cStride, rows, columns, depth);
  return 0;
}

/// matrixProducts(a, b, c, batch, rows, columns, depth, transposeA, transposeB, sameA, sameB): C[i] = op(A[i])·op(B[i]) for
/// dense matrices, one after the other in memory; with sameA or sameB all use the one that there is.
static double matrixProducts(const Arguments& args) {
  const size_t batch = args.size(3), rows = args.size(4), columns = args.size(5), depth = args.size(6);
  const bool transposeA = args.boolean(7), transposeB = args.boolean(8);
  const size_t aStep = args.boolean(9) ? 0 : rows * depth, bStep = args.boolean(10) ? 0 : depth * columns;
  const float* a = args.floats(0, (aStep == 0 ? 1 : batch) * rows * depth);
  const float* b = args.floats(1, (bStep == 0 ? 1 : batch) * depth * columns);
  float* c = args.floats(2, batch * rows * columns);
  const auto product = [&](size_t i, auto multiplyOne) {
    multiplyOne(Matrix{a + i * aStep, transposeA ? rows : depth, transposeA},
                Matrix{b + i * bStep, transposeB ? depth : columns, transposeB}, 0.0f, c + i * rows * columns, columns, rows,
                columns, depth);
  };
  if (batch >= 2 * static_cast<size_t>(threadCount())) {
    parallelItems(batch, [&](size_t i) { product(i, multiply); });
  } else {
    for (size_t i = 0; i < batch; ++i) product(i, multiplyShared);
  }
  return 0;
}

SLUICE_EXPORT(matrixProduct, matrixProduct);
SLUICE_EXPORT(matrixProducts, matrixProducts);

}  // namespace sluice
