// Advice to the operating system about large arrays.

#include "addon.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sluice {

constexpr uintptr_t kHugePage = uintptr_t{1} << 21;

/// adviseHugePages(array, length): asks for huge pages under a Float32Array that has not been touched yet, so that walking
/// through it misses the CPU's table of pages less often. @returns how many bytes may lie on huge pages
static double adviseHugePages(const Arguments& args) {
  const size_t length = args.size(1);
  const auto data = reinterpret_cast<uintptr_t>(args.floats(0, length));
  const uintptr_t begin = (data + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t end = (data + length * sizeof(float)) / kHugePage * kHugePage;
  if (begin >= end) return 0;
#ifdef __linux__
  // Where the kernel has no such pages, nothing is lost.
  if (madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE) == 0) return static_cast<double>(end - begin);
#endif
  return 0;
}

SLUICE_EXPORT(adviseHugePages, adviseHugePages);

}  // namespace sluice
