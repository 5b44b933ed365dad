// Products of small matrices that lie in a cache, in their natural order: one tile of the result stays in registers, the left
// operand is read one number at a time, the right one in vectors. Each element is the same sequence of roundings on every
// machine: products are added one after the other, each with one rounding, to what the tile began with.

#pragma once

#include <algorithm>
#include <cstddef>

#include "simd.h"

namespace sluice {

// The tile of a product that stays in registers.
#if defined(__AVX512F__)
constexpr size_t kRows = 8, kVectors = 2;
#elif defined(__aarch64__)
constexpr size_t kRows = 4, kVectors = 4;
#else
constexpr size_t kRows = 4, kVectors = 2;
#endif

inline size_t roundUp(size_t value, size_t step) { return (value + step - 1) / step * step; }

/// How the left operand of a product lies in memory: row after row, or column after column.
enum class Left { rows, columns };

/// tile += A·B for kRows rows of A and `vectors` vectors of columns of B, both `depth` long.
template <Left left, size_t vectors>
inline __attribute__((always_inline)) void addProduct(const float* a, size_t aStride, const float* b, size_t bStride,
                                                       size_t depth, Vec (&tile)[kRows][vectors]) {
  for (size_t k = 0; k < depth; ++k) {
    Vec right[vectors];
#pragma GCC unroll 8
    for (size_t v = 0; v < vectors; ++v) right[v] = load(b + k * bStride + v * kWidth);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Vec scalar = broadcast(left == Left::rows ? a[r * aStride + k] : a[k * aStride + r]);
#pragma GCC unroll 8
      for (size_t v = 0; v < vectors; ++v) tile[r][v] = fused(scalar, right[v], tile[r][v]);
    }
  }
}

template <size_t vectors>
inline __attribute__((always_inline)) void loadTile(const float* c, size_t stride, Vec (&tile)[kRows][vectors]) {
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t v = 0; v < vectors; ++v) tile[r][v] = load(c + r * stride + v * kWidth);
  }
}
template <size_t vectors>
inline __attribute__((always_inline)) void storeTile(float* c, size_t stride, const Vec (&tile)[kRows][vectors]) {
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t v = 0; v < vectors; ++v) store(c + r * stride + v * kWidth, tile[r][v]);
  }
}

/// to[columns][rows] = from[rows][columns]ᵀ; both sides are multiples of 16.
inline void transposeBlock(const float* from, size_t rows, size_t columns, float* to) {
  for (size_t row = 0; row < rows; row += kWidth) {
    for (size_t column = 0; column < columns; column += kWidth) {
      Vec square[kWidth];
#pragma GCC unroll 16
      for (size_t i = 0; i < kWidth; ++i) square[i] = load(from + (row + i) * columns + column);
      transpose(square);
#pragma GCC unroll 16
      for (size_t i = 0; i < kWidth; ++i) store(to + (column + i) * rows + row, square[i]);
    }
  }
}

/// Copies `count` rows of `width` numbers into `rows` rows of `paddedWidth` (whole vectors), the rest zero.
inline void copyRows(const float* from, size_t stride, size_t count, size_t width, float* to, size_t rows,
                     size_t paddedWidth) {
  for (size_t row = 0; row < count; ++row) {
    const float* source = from + row * stride;
    float* target = to + row * paddedWidth;
    size_t c = 0;
    for (; c + kWidth <= width; c += kWidth) store(target + c, load(source + c));
    if (c < width) store(target + c, loadPart(source + c, width - c)), c += kWidth;
    for (; c < paddedWidth; c += kWidth) store(target + c, Vec{});
  }
  std::fill(to + count * paddedWidth, to + rows * paddedWidth, 0.0f);
}

/// Copies the first `width` numbers of `count` rows of `paddedWidth` to rows that lie `stride` apart.
inline void copyBack(const float* from, size_t paddedWidth, size_t count, size_t width, float* to, size_t stride) {
  for (size_t row = 0; row < count; ++row) {
    for (size_t c = 0; c < width; c += kWidth) storeUpTo(to + row * stride + c, load(from + row * paddedWidth + c), width - c);
  }
}

}  // namespace sluice
