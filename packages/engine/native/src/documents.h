// Rows of tokens, cut into documents that see nothing of each other; where documents are not kept apart, a whole sequence counts
// as one.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>

#include "addon.h"

namespace sluice {

/// Positions are counted from a document's first token.
class Documents {
 public:
  Documents() = default;

  /// @param index of the argument that holds the first row of each document and then the number of rows, and is followed by
  ///   the number of documents
  Documents(const Arguments& args, size_t index) : count_(args.size(index + 1)), starts_(args.integers(index, count_ + 1)) {
    if (starts_[0] != 0) throw std::runtime_error("the first document must begin at row 0");
    for (size_t document = 0; document < count_; ++document) {
      if (starts_[document + 1] <= starts_[document]) throw std::runtime_error("documents must have tokens, and be in order");
      longest_ = std::max(longest_, length(document));
      shortest_ = std::min(shortest_, length(document));
    }
  }

  size_t count() const { return count_; }
  size_t tokens() const { return begin(count_); }
  size_t begin(size_t document) const { return static_cast<size_t>(starts_[document]); }
  size_t length(size_t document) const { return begin(document + 1) - begin(document); }
  size_t longest() const { return longest_; }
  bool areEqual() const { return shortest_ >= longest_; }
  /// The position of a row in its document.
  size_t position(size_t row) const {
    const int32_t* after = std::upper_bound(starts_, starts_ + count_, static_cast<int32_t>(row));
    return row - static_cast<size_t>(after[-1]);
  }

 private:
  size_t count_ = 0;
  const int32_t* starts_ = nullptr;
  size_t longest_ = 0, shortest_ = SIZE_MAX;
};

}  // namespace sluice
