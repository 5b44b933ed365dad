// Memory that begins where the CPU likes it.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sluice {

constexpr size_t kCacheLine = 64;

/// Memory of arbitrary content for std::free, or null where there is none. It begins at a page, so that no vector straddles
/// two cache lines; large memory at a huge page, and on such pages where the system has them, so that walking through a
/// matrix misses the CPU's table of pages less often.
inline void* allocateAligned(size_t bytes) {
  constexpr size_t kPage = 4096, kHugePage = size_t{1} << 21;
  const size_t alignment = bytes >= kHugePage ? kHugePage : kPage;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) return nullptr;
#ifdef __linux__
  if (alignment == kHugePage) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return memory;
}

}  // namespace sluice
