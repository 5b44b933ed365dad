/**
 * Copies between arrays with any steps along their axes: slices, transposes, tiles, pads, reversals, parts of a concatenation. Each
 * thread moves one element.
 */
#include "stock.h"

constexpr int THREADS = 256;

/** What takes as many bytes as an element. */
template <typename T>
DEVICE void copy(const void* from, void* to, int begin, int target, int length, const Layout2& layout) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  long long places[2] = {begin, target};
  locate(layout, static_cast<uint32>(i), places);
  static_cast<T*>(to)[places[1]] = static_cast<const T*>(from)[places[0]];
}

/** @param begin of the source @param target begin of the target */
KERNEL(copyWords, THREADS, 6, const void* x, void* y, int begin, int target, int length, Layout2 layout) {
  copy<uint32>(x, y, begin, target, length, layout);
}
KERNEL(copyHalves, THREADS, 6, const void* x, void* y, int begin, int target, int length, Layout2 layout) {
  copy<uint16>(x, y, begin, target, length, layout);
}

/** y[batch, outer, i, at] = x[batch, outer, indices[batch, i], at] */
template <typename T>
DEVICE void gather(const void* x, const int* indices, void* y, int outer, int rows, int count, int width, int length) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  const uint32 at = static_cast<uint32>(i) % width, row = static_cast<uint32>(i) / width;
  const uint32 which = row % count, block = row / count;
  const int index = indices[static_cast<uint64>(block / outer) * count + which];
  static_cast<T*>(y)[i] = static_cast<const T*>(x)[(static_cast<uint64>(block) * rows + index) * width + at];
}

KERNEL(gatherWords, THREADS, 6, const void* x, const int* indices, void* y, int outer, int rows, int count, int width, int length) {
  gather<uint32>(x, indices, y, outer, rows, count, width, length);
}
KERNEL(gatherHalves, THREADS, 6, const void* x, const int* indices, void* y, int outer, int rows, int count, int width, int length) {
  gather<uint16>(x, indices, y, outer, rows, count, width, length);
}

/** y[i, class] = on where indices[i] is the class, otherwise off. */
KERNEL(oneHot, THREADS, 6, const int* indices, void* y, int storage, int depth, int length, float on, float off) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  const uint32 row = static_cast<uint32>(i) / depth, at = static_cast<uint32>(i) % depth;
  storeFloat(y, storage, i, indices[row] == static_cast<int>(at) ? on : off);
}
