/**
 * Operations on each element that choose or convert. Those that compute something are generated from expressions
 * (`src/cuda/stock/expressions.ts`).
 */
#include "stock.h"

constexpr int THREADS = 256;

/** Of t where the condition holds, otherwise of e. @param layout of the condition, which may be one for each row */
template <typename T>
DEVICE void select(const int* condition, const void* t, const void* e, void* y, int length, const Layout1& layout) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  long long at[1] = {0};
  locate(layout, static_cast<uint32>(i), at);
  static_cast<T*>(y)[i] = static_cast<const T*>(condition[at[0]] != 0 ? t : e)[i];
}

KERNEL(selectWords, THREADS, 6, const int* condition, const void* t, const void* e, void* y, int length, Layout1 layout) {
  select<uint32>(condition, t, e, y, length, layout);
}
KERNEL(selectHalves, THREADS, 6, const int* condition, const void* t, const void* e, void* y, int length, Layout1 layout) {
  select<uint16>(condition, t, e, y, length, layout);
}

KERNEL(convert, THREADS, 6, const void* x, void* y, int fromStorage, int storage, int length) {
  const uint64 i = globalIndex();
  if (i < static_cast<uint64>(length)) storeFloat(y, storage, i, loadFloat(x, fromStorage, i));
}

/** 1 where x is not 0. */
KERNEL(isNotZero, THREADS, 6, const void* x, int* y, int storage, int length) {
  const uint64 i = globalIndex();
  if (i < static_cast<uint64>(length)) y[i] = loadFloat(x, storage, i) != 0.0f;
}
