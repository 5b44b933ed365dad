// Sums whose partial sums are rounded to bfloat16 (the upper half of a float, to nearest, ties to even) wherever they are added to others,
// so that they can travel as such. Additions are in single precision, and the sum of all is not rounded.

#include <algorithm>
#include <cstring>

#include "addon.h"
#include "parallel.h"

namespace sluice {

/// Not a number stays that, and an infinity too; a number too large for bfloat16 becomes infinite.
static inline uint32_t roundedBits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t nearest = bits + 0x7fffu + ((bits >> 16) & 1u);
  return (x != x ? bits | 0x400000u : nearest) & 0xffff0000u;
}

static inline float toFloat(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float rounded(float x) { return toFloat(roundedBits(x)); }

/// The float whose upper half it is.
static inline float widened(uint16_t half) { return toFloat(static_cast<uint32_t>(half) << 16); }

/// What `parallelFor` hands out at a time, elements.
constexpr size_t kPiece = 16384;

/// roundToBfloat16(count, values, result as the upper halves)
static double roundToBfloat16(const Arguments& args) {
  const size_t count = args.size(0);
  const float* values = args.floats(1, count);
  uint16_t* result = args.halves(2, count);
  parallelFor(count, kPiece, [&](size_t begin, size_t end) {
#pragma GCC ivdep
    for (size_t i = begin; i < end; ++i) result[i] = static_cast<uint16_t>(roundedBits(values[i]) >> 16);
  });
  return 0;
}

/// addRounded(count, target, source): target = rounded(target) + rounded(source)
static double addRounded(const Arguments& args) {
  const size_t count = args.size(0);
  float* target = args.floats(1, count);
  const float* source = args.floats(2, count);
  parallelFor(count, kPiece, [&](size_t begin, size_t end) {
#pragma GCC ivdep
    for (size_t i = begin; i < end; ++i) target[i] = rounded(target[i]) + rounded(source[i]);
  });
  return 0;
}

// Elements that are summed at a time, so that partial sums stay in the first cache.
constexpr size_t kBlock = 512;

/// out = the sum of at least two sources from `offset` on, by halves; `scratch` has a block for each level below.
static void sumBlock(uint16_t* const* sources, size_t number, size_t offset, size_t count, float* out, float* scratch) {
  if (number == 2) {
    const uint16_t *a = sources[0] + offset, *b = sources[1] + offset;
#pragma GCC ivdep
    for (size_t i = 0; i < count; ++i) out[i] = widened(a[i]) + widened(b[i]);
    return;
  }
  size_t left = 1;
  while (left * 2 < number) left *= 2;
  sumBlock(sources, left, offset, count, out, scratch);
  const size_t right = number - left;
  if (right > 1) {
    sumBlock(sources + left, right, offset, count, scratch, scratch + kBlock);
  } else {
    for (size_t i = 0; i < count; ++i) scratch[i] = widened(sources[left][offset + i]);
  }
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) out[i] = rounded(out[i]) + rounded(scratch[i]);
}

/// sumTreeBfloat16(count, target, source0, source1, …): target becomes the tree sum of at least two sources.
static double sumTreeBfloat16(const Arguments& args) {
  const size_t count = args.size(0), number = args.count() - 2;
  if (args.count() < 4) throw std::runtime_error("at least two sources are needed");
  float* target = args.floats(1, count);
  uint16_t* sources[Arguments::kMost];
  for (size_t i = 0; i < number; ++i) sources[i] = args.halves(2 + i, count);
  parallelFor((count + kBlock - 1) / kBlock, 32, [&](size_t begin, size_t end) {
    float scratch[6 * kBlock];
    for (size_t offset = begin * kBlock; offset < std::min(count, end * kBlock); offset += kBlock) {
      sumBlock(sources, number, offset, std::min(kBlock, count - offset), target + offset, scratch);
    }
  });
  return 0;
}

SLUICE_EXPORT(roundToBfloat16, roundToBfloat16);
SLUICE_EXPORT(addRounded, addRounded);
SLUICE_EXPORT(sumTreeBfloat16, sumTreeBfloat16);

}  // namespace sluice
