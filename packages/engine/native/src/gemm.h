// Single-precision matrix products, C = beta·C + op(A)·op(B), all row-major.
//
// Every element of C is the same sequence of roundings wherever it lies and however many rows, columns or threads there
// are: the summed axis is cut into blocks that depend on its length alone; within a block products are added one after
// the other, each with one rounding (`fused`), and the blocks' sums are added to C in order. So a row's result does not depend
// on which rows share the product.

#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>

#include "scratch.h"
#include "simd.h"

namespace sluice {

/// A matrix as it lies in memory, `stride` floats from row to row, read as it is or transposed.
struct Matrix {
  const float* data;
  size_t stride;
  bool transposed = false;

  /// The matrix without its first `rows` rows and `columns` columns (of the matrix as it is read).
  Matrix from(size_t rows, size_t columns) const {
    return {data + (transposed ? columns * stride + rows : rows * stride + columns), stride, transposed};
  }
};

inline Matrix plain(const float* data, size_t stride) { return {data, stride, false}; }
inline Matrix transposed(const float* data, size_t stride) { return {data, stride, true}; }

// The tile of C that stays in registers: kTileRows × kTileVectors accumulators leave room for one row of B and one
// number of A. kTileRows is at most kWidth, which packing relies on.
#if defined(SLUICE_SCALAR)
constexpr size_t kTileRows = 1, kTileVectors = 8;
#elif defined(__AVX512F__)
constexpr size_t kTileRows = 14, kTileVectors = 2;
#elif defined(__AVX__)
constexpr size_t kTileRows = 6, kTileVectors = 2;
#elif defined(__aarch64__)
constexpr size_t kTileRows = 4, kTileVectors = 5;
#else
constexpr size_t kTileRows = 4, kTileVectors = 3;
#endif
constexpr size_t kTileColumns = kTileVectors * kWidth;

/// Longest block of the summed axis: a strip of A and a panel of B of this depth fit in the first two caches.
constexpr size_t kMostDepth = 512;

/// How the summed axis is cut: into equal blocks, as few as possible; or some neighbouring ones of these blocks.
class DepthBlocks {
 public:
  explicit DepthBlocks(size_t depth)
      : count(std::max<size_t>(1, (depth + kMostDepth - 1) / kMostDepth)), depth_(depth), all_(count) {}

  DepthBlocks range(size_t first, size_t last) const {
    DepthBlocks part = *this;
    part.first_ += first;
    part.count = last - first;
    return part;
  }
  size_t begin(size_t block) const { return depth_ * (first_ + block) / all_; }
  size_t end(size_t block) const { return begin(block + 1); }

  size_t count;

 private:
  size_t depth_, all_, first_ = 0;
};

/// op(B) in the order in which the tiles read it: for each block of depth, panels of kTileColumns columns.
class PackedMatrix {
 public:
  /// @param memory at least size() floats
  PackedMatrix(const DepthBlocks& blocks, size_t columns, float* memory)
      : blocks(blocks), columns(columns), panels((columns + kTileColumns - 1) / kTileColumns), memory_(memory) {}

  static size_t size(size_t depth, size_t columns) {
    return depth * ((columns + kTileColumns - 1) / kTileColumns * kTileColumns);
  }
  float* panel(size_t block, size_t index) const {
    const size_t begin = blocks.begin(block);
    return memory_ + ((begin - blocks.begin(0)) * panels + (blocks.end(block) - begin) * index) * kTileColumns;
  }

  DepthBlocks blocks;
  size_t columns, panels;

 private:
  float* memory_;
};

/// C[rows×columns] = beta·C + op(A)[rows×depth]·op(B)[depth×columns] on the calling thread.
void multiply(const Matrix& a, const Matrix& b, float beta, float* c, size_t cStride, size_t rows, size_t columns,
              size_t depth);

/// The same, shared out among the caller's threads.
void multiplyShared(const Matrix& a, const Matrix& b, float beta, float* c, size_t cStride, size_t rows, size_t columns,
                    size_t depth);

/// Most factors that a kernel has at once.
constexpr size_t kMostFactors = 2;

/// op(B) that takes part in several products, one for each block of rows: packed once, unless it is so large that its packed
/// copy would be a burden, or used so little that packing does not pay.
class Factor {
 public:
  /// Packs on the calling thread, or (shared) with all of its threads. @param place below kMostFactors: which of the calling
  /// thread's memories the packed copy takes, until the next factor there. Kernels do not run inside each other, so that all
  /// of them share these.
  Factor(bool shared, const Matrix& matrix, size_t columns, size_t depth, size_t rowsToCome, size_t place);

  /// C = beta·C + op(A)·op(B), on the calling thread or shared out.
  void multiply(bool shared, const Matrix& a, float beta, float* c, size_t cStride, size_t rows) const;

 private:
  Matrix matrix_;
  size_t columns_, depth_;
  std::optional<PackedMatrix> packed_;
};

}  // namespace sluice
