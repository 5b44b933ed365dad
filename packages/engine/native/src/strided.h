// Loops over several arrays of one shape, each with strides of its own (0 where it is broadcast).

#pragma once

#include <array>

#include "addon.h"
#include "parallel.h"

namespace sluice {

/// The shape and, for each of `arrays` arrays, the steps in elements; JavaScript hands them over as one list.
template <size_t arrays>
class StridedLoop {
 public:
  static constexpr size_t kMostAxes = 16;
  using Offsets = std::array<size_t, arrays>;

  /// Argument `index`: [sizes…, strides of the first array…, strides of the second array…], argument `index + 1`: axes.
  StridedLoop(const Arguments& args, size_t index) : axes_(args.size(index + 1)) {
    const int32_t* list = args.integers(index, axes_ * (arrays + 1));
    if (axes_ < 1 || axes_ > kMostAxes) throw std::runtime_error("a shape needs 1 to 16 axes");
    for (size_t i = 0; i < axes_ * (arrays + 1); ++i) {
      if (list[i] < 0) throw std::runtime_error("sizes and strides cannot be negative");
    }
    std::copy(list, list + axes_, sizes_.begin());
    for (size_t array = 0; array < arrays; ++array) {
      std::copy(list + axes_ * (array + 1), list + axes_ * (array + 2), strides_[array].begin());
    }
  }

  /// Elements from an array's first to one beyond its last.
  size_t extent(size_t array) const {
    size_t last = 0;
    for (size_t axis = 0; axis < axes_; ++axis) {
      if (sizes_[axis] == 0) return 0;
      last += (sizes_[axis] - 1) * strides_[array][axis];
    }
    return last + 1;
  }

  /// Calls `body(offsets, length)` for runs along the last axis, shared out among threads.
  template <typename Body>
  void forEachRun(const Body& body) const {
    const size_t length = sizes_[axes_ - 1];
    size_t rows = 1;
    for (size_t axis = 0; axis + 1 < axes_; ++axis) rows *= sizes_[axis];
    if (rows == 0 || length == 0) return;
    // Long runs are cut, so that few rows can be shared out as well.
    const size_t pieces = (length + kPiece - 1) / kPiece;
    parallelFor(rows * pieces, 1 + kLeast / std::min(length, kPiece), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        const size_t start = i % pieces * kPiece;
        Offsets offsets = offsetsOf(i / pieces);
        for (size_t array = 0; array < arrays; ++array) offsets[array] += start * step(array);
        body(offsets, std::min(kPiece, length - start));
      }
    });
  }

  /// An array's step along the last axis.
  size_t step(size_t array) const { return strides_[array][axes_ - 1]; }

 private:
  static constexpr size_t kPiece = 1 << 14, kLeast = 1 << 14;

  Offsets offsetsOf(size_t row) const {
    Offsets offsets{};
    for (size_t axis = axes_ - 1; axis-- > 0;) {
      const size_t place = row % sizes_[axis];
      row /= sizes_[axis];
      for (size_t array = 0; array < arrays; ++array) offsets[array] += place * strides_[array][axis];
    }
    return offsets;
  }

  size_t axes_;
  std::array<size_t, kMostAxes> sizes_{};
  std::array<std::array<size_t, kMostAxes>, arrays> strides_{};
};

}  // namespace sluice
