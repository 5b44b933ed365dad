/**
 * Memory that is mapped into a range of addresses, as `src/cuda/arena.ts` grows it. The host's pages are taken when they are first
 * touched. What of the range is in use, the arena says by `emulatorTake` and `emulatorGive`, which a GPU's driver has not.
 */

#include <algorithm>
#include <map>

#include <sys/mman.h>

#include "api.h"

using namespace emulator;

namespace {

constexpr size_t GRANULARITY = 2 << 20;

struct Physical {
  size_t bytes;
  bool isMapped, isReleased;
};
std::map<uint64_t, Physical> created;
uint64_t lastHandle = 0;
/** Handles by the address at which they are mapped. */
std::map<uint64_t, uint64_t> mapped;

void forgetIfUnused(uint64_t handle) {
  const auto found = created.find(handle);
  if (!found->second.isReleased || found->second.isMapped) return;
  changeUsedBytes(-static_cast<int64_t>(found->second.bytes));
  created.erase(found);
}

void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

}  // namespace

API cuMemGetInfo_v2(size_t* free, size_t* total) {
  *total = settings.memoryBytes;
  *free = settings.memoryBytes - std::min(usedBytes(), settings.memoryBytes);
  return SUCCESS;
}
API cuMemGetAllocationGranularity(size_t* bytes, const void*, int) { return *bytes = GRANULARITY, SUCCESS; }

API cuMemAddressReserve(uint64_t* address, size_t bytes, size_t, uint64_t, unsigned long long) {
  if (bytes == 0 || bytes % GRANULARITY != 0) return check(false, INVALID_VALUE, "a range is a multiple of 2 MiB");
  void* range = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  *address = reinterpret_cast<uint64_t>(range);
  return check(range != MAP_FAILED, OUT_OF_MEMORY, "the host has no such range of addresses");
}
API cuMemAddressFree(uint64_t address, size_t bytes) {
  const auto within = mapped.lower_bound(address);
  if (within != mapped.end() && within->first < address + bytes) return check(false, INVALID_VALUE, "memory is mapped there");
  return check(munmap(pointer(address), bytes) == 0, INVALID_VALUE, "there is no such range");
}

API cuMemCreate(uint64_t* handle, size_t bytes, const void*, unsigned long long) {
  if (bytes == 0 || bytes % GRANULARITY != 0) return check(false, INVALID_VALUE, "memory comes in multiples of 2 MiB");
  if (usedBytes() + bytes > settings.memoryBytes) return check(false, OUT_OF_MEMORY, "the emulated device has no more memory");
  changeUsedBytes(static_cast<int64_t>(bytes));
  created[*handle = ++lastHandle] = {bytes, false, false};
  return SUCCESS;
}
API cuMemRelease(uint64_t handle) {
  const auto found = created.find(handle);
  if (found == created.end() || found->second.isReleased) return check(false, INVALID_VALUE, "no memory has this handle");
  found->second.isReleased = true;
  forgetIfUnused(handle);
  return SUCCESS;
}
API cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t handle, unsigned long long) {
  const auto found = created.find(handle);
  const bool isRight = found != created.end() && !found->second.isMapped && offset == 0 && bytes == found->second.bytes;
  if (!isRight) return check(false, INVALID_VALUE, "memory is mapped once here, and as a whole");
  found->second.isMapped = true;
  mapped[address] = handle;
  return SUCCESS;
}
API cuMemSetAccess(uint64_t address, size_t bytes, const void*, size_t) {
  if (!mapped.count(address)) return check(false, INVALID_VALUE, "no memory is mapped there");
  return check(mprotect(pointer(address), bytes, PROT_READ | PROT_WRITE) == 0, INVALID_VALUE, "the host refuses access");
}
API cuMemUnmap(uint64_t address, size_t bytes) {
  const auto found = mapped.find(address);
  if (found == mapped.end()) return check(false, INVALID_VALUE, "no memory is mapped there");
  created[found->second].isMapped = false;
  forgetIfUnused(found->second);
  mapped.erase(found);
  madvise(pointer(address), bytes, MADV_DONTNEED);
  return check(mprotect(pointer(address), bytes, PROT_NONE) == 0, INVALID_VALUE, "the host refuses");
}

// What only the emulator has.

/**
 * When the stream has come so far, these bytes, which are mapped or lie in an allocation, are an allocation of their own, of arbitrary
 * content: what was asked for before may still have them.
 */
API emulatorTake(uint64_t address, size_t bytes, void* stream) {
  return inOrder(stream, [=] {
    const std::string wrong = take(address, bytes);
    return check(wrong.empty(), INVALID_VALUE, wrong);
  });
}
API emulatorGive(uint64_t address, void* stream) {
  return inOrder(stream, [=] {
    const std::string wrong = give(address);
    return check(wrong.empty(), INVALID_VALUE, wrong);
  });
}
