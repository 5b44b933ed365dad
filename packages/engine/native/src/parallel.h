// Work shared out among threads. A kernel splits only over independent outputs, never over a summed axis, so that the
// number of threads changes no bit of any result.

#pragma once

#include <algorithm>
#include <cstddef>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace sluice {

inline int& threadSetting() {
  static thread_local int setting = 1;
  return setting;
}

/// Number of threads that kernels called from this thread use. (A worker's communication thread stays at one.)
inline int threadCount() { return threadSetting(); }
inline void setThreadCount(int count) { threadSetting() = std::max(1, count); }

/// Work of fewer multiplications is not worth waking other threads for (some microseconds).
constexpr size_t kLeastShared = size_t{1} << 17;

/// Calls `body(begin, end)` for contiguous parts of [0, count), each of at least `grain` items.
template <typename Body>
void parallelFor(size_t count, size_t grain, const Body& body) {
  if (count == 0) return;
  const size_t most = (count + std::max<size_t>(grain, 1) - 1) / std::max<size_t>(grain, 1);
  const int parts = static_cast<int>(std::min<size_t>(most, static_cast<size_t>(threadCount())));
#ifdef _OPENMP
  if (parts > 1) {
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int part = 0; part < parts; ++part) body(count * part / parts, count * (part + 1) / parts);
    return;
  }
#endif
  body(0, count);
}

/// Calls `body(item)` for each item, handed out one after the other to whichever thread is free (for uneven items).
/// @param multiplications of all items together, where there may be few
template <typename Body>
void parallelItems(size_t count, const Body& body, size_t multiplications = kLeastShared) {
  const size_t threads = multiplications < kLeastShared ? 1 : static_cast<size_t>(threadCount());
  const int parts = static_cast<int>(std::min(count, threads));
#ifdef _OPENMP
  if (parts > 1) {
#pragma omp parallel for num_threads(parts) schedule(dynamic, 1)
    for (size_t item = 0; item < count; ++item) body(item);
    return;
  }
#endif
  (void)parts;
  for (size_t item = 0; item < count; ++item) body(item);
}

}  // namespace sluice
