// Rows of a table by token id, and the table's gradient.

#include <cstring>

#include "addon.h"
#include "parallel.h"
#include "simd.h"

namespace sluice {

static void checkIds(const int32_t* ids, size_t count, size_t vocabulary) {
  for (size_t n = 0; n < count; ++n) {
    if (ids[n] < 0 || static_cast<size_t>(ids[n]) >= vocabulary) {
      throw std::runtime_error("token " + std::to_string(ids[n]) + " at position " + std::to_string(n) +
                               " is not among the " + std::to_string(vocabulary) + " of the vocabulary");
    }
  }
}

/// embedding(ids[count], weight[vocabulary·width], y[count·width], count, vocabulary, width)
static double embedding(const Arguments& args) {
  const size_t count = args.size(3), vocabulary = args.size(4), width = args.size(5);
  const int32_t* ids = args.integers(0, count);
  const float* weight = args.floats(1, vocabulary * width);
  float* y = args.floats(2, count * width);
  checkIds(ids, count, vocabulary);
  parallelFor(count, 64, [&](size_t begin, size_t end) {
    for (size_t n = begin; n < end; ++n) {
      std::memcpy(y + n * width, weight + static_cast<size_t>(ids[n]) * width, width * sizeof(float));
    }
  });
  return 0;
}

static void addRow(float* target, const float* source, size_t width) {
  size_t c = 0;
  for (; c + kWidth <= width; c += kWidth) store(target + c, load(target + c) + load(source + c));
  for (; c < width; ++c) target[c] += source[c];
}

/// embeddingBackward(ids, dy[count·width], dWeight[vocabulary·width], count, vocabulary, width, accumulate)
static double embeddingBackward(const Arguments& args) {
  const size_t count = args.size(3), vocabulary = args.size(4), width = args.size(5);
  const bool accumulate = args.boolean(6);
  const int32_t* ids = args.integers(0, count);
  const float* dy = args.floats(1, count * width);
  float* dWeight = args.floats(2, vocabulary * width);
  checkIds(ids, count, vocabulary);
  if (!accumulate) {
    parallelFor(vocabulary, 256, [&](size_t begin, size_t end) {
      std::memset(dWeight + begin * width, 0, (end - begin) * width * sizeof(float));
    });
  }
  // Every thread sees all tokens, in order, and owns some columns: a row's sum is formed in order of the tokens.
  const size_t stripe = 64;
  parallelFor((width + stripe - 1) / stripe, 1, [&](size_t begin, size_t end) {
    const size_t first = begin * stripe, last = std::min(width, end * stripe);
    for (size_t n = 0; n < count; ++n) {
      addRow(dWeight + static_cast<size_t>(ids[n]) * width + first, dy + n * width + first, last - first);
    }
  });
  return 0;
}

SLUICE_EXPORT(embedding, embedding);
SLUICE_EXPORT(embeddingBackward, embeddingBackward);

}  // namespace sluice
