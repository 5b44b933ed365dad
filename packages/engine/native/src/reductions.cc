// Sums over flat buffers, in an order that neither threads nor vector width change.

#include "addon.h"
#include "parallel.h"
#include "squared_norm.h"

namespace sluice {

/// squaredNorms(values[count], norms[⌈count / block⌉], count, block)
static double squaredNorms(const Arguments& args) {
  const size_t count = args.size(2), block = args.size(3);
  if (block == 0) throw std::runtime_error("a block must have elements");
  const size_t blocks = (count + block - 1) / block;
  const float* values = args.floats(0, count);
  double* norms = args.doubles(1, blocks);
  parallelFor(blocks, 1 + 32768 / block, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) norms[i] = squaredNorm(values + i * block, std::min(block, count - i * block));
  });
  return 0;
}

// Elements that are summed at a time, so that partial sums stay in the first cache.
constexpr size_t kSumBlock = 512;

/// The sum of element i of `number` sources, a power of two, by halves.
template <size_t number, typename T>
static T halves(T* const* sources, size_t i) {
  if constexpr (number == 1) {
    return sources[0][i];
  } else {
    return halves<number / 2>(sources, i) + halves<number / 2>(sources + number / 2, i);
  }
}

template <size_t number, typename T>
static void sumOf(T* const* sources, size_t offset, size_t count, T* out) {
#pragma GCC ivdep
  for (size_t i = 0; i < count; ++i) out[i] = halves<number>(sources, offset + i);
}

/// out = the sum of `number` sources from `offset` on, by halves: the left half has the largest power of two below `number`.
/// `out` may be one of up to eight sources if their number is a power of two.
template <typename T>
static void sumBlock(T* const* sources, size_t number, size_t offset, size_t count, T* out, T* scratch) {
  switch (number) {
    case 1:
      return sumOf<1>(sources, offset, count, out);
    case 2:
      return sumOf<2>(sources, offset, count, out);
    case 4:
      return sumOf<4>(sources, offset, count, out);
    case 8:
      return sumOf<8>(sources, offset, count, out);
  }
  size_t left = 1;
  while (left * 2 < number) left *= 2;
  sumBlock(sources, left, offset, count, out, scratch);
  sumBlock(sources + left, number - left, offset, count, scratch, scratch + kSumBlock);
  for (size_t i = 0; i < count; ++i) out[i] += scratch[i];
}

/// sumTree(count, target, source0, source1, …): target becomes the tree sum of at least two sources and may be one.
template <typename T>
static double sumTree(const Arguments& args, T* (*get)(const Arguments&, size_t, size_t)) {
  const size_t count = args.size(0), number = args.count() - 2;
  if (args.count() < 4) throw std::runtime_error("at least two sources are needed");
  T* target = get(args, 1, count);
  T* sources[Arguments::kMost];
  for (size_t i = 0; i < number; ++i) sources[i] = get(args, 2 + i, count);
  const bool isDirect = number <= 8 && (number & (number - 1)) == 0;
  parallelFor((count + kSumBlock - 1) / kSumBlock, 32, [&](size_t begin, size_t end) {
    const size_t first = begin * kSumBlock, beyond = std::min(count, end * kSumBlock);
    if (isDirect) return sumBlock(sources, number, first, beyond - first, target + first, static_cast<T*>(nullptr));
    // Not straight into the target, which may be a source that is still to be read.
    T sum[kSumBlock], scratch[6 * kSumBlock];
    for (size_t offset = first; offset < beyond; offset += kSumBlock) {
      const size_t length = std::min(kSumBlock, beyond - offset);
      sumBlock(sources, number, offset, length, sum, scratch);
      std::memcpy(target + offset, sum, length * sizeof(T));
    }
  });
  return 0;
}

static double sumTreeFloat32(const Arguments& args) {
  return sumTree<float>(args, [](const Arguments& a, size_t i, size_t n) { return a.floats(i, n); });
}
static double sumTreeFloat64(const Arguments& args) {
  return sumTree<double>(args, [](const Arguments& a, size_t i, size_t n) { return a.doubles(i, n); });
}
static double sumTreeInt32(const Arguments& args) {
  return sumTree<uint32_t>(
      args, [](const Arguments& a, size_t i, size_t n) { return reinterpret_cast<uint32_t*>(a.integers(i, n)); });
}

SLUICE_EXPORT(squaredNorms, squaredNorms);
SLUICE_EXPORT(sumTreeFloat32, sumTreeFloat32);
SLUICE_EXPORT(sumTreeFloat64, sumTreeFloat64);
SLUICE_EXPORT(sumTreeInt32, sumTreeInt32);

}  // namespace sluice
