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
/** Ranges of addresses, their bytes by their begin. */
std::map<uint64_t, size_t> reserved;

/** `CUmemAllocationProp` and `CUmemAccessDesc`, as far as anything is said in them. */
struct Location {
  int type, id;
};
struct Properties {
  int type, handleTypes;
  Location location;
  uint64_t others[2];
};
struct Access {
  Location location;
  int flags;
};
constexpr int PINNED = 1, ON_DEVICE = 1, READ_WRITE = 3;

bool isHere(const Location& location) { return location.type == ON_DEVICE && location.id == 0; }
Result unlike(const Properties& properties) {
  const bool isUsual = properties.type == PINNED && properties.handleTypes == 0 && isHere(properties.location);
  return check(isUsual && properties.others[0] == 0 && properties.others[1] == 0, INVALID_VALUE, "memory of the device itself is meant");
}

/** Of the range that has all of these bytes, the bytes; 0 where there is none. */
size_t rangeOf(uint64_t address, size_t bytes) {
  const auto next = reserved.upper_bound(address);
  if (next == reserved.begin()) return 0;
  const auto& [begin, size] = *std::prev(next);
  return address + bytes <= begin + size ? size : 0;
}
bool isWhole(uint64_t address, size_t bytes) {
  const auto found = mapped.find(address);
  return found != mapped.end() && created[found->second].bytes == bytes;
}

void forgetIfUnused(uint64_t handle) {
  const auto found = created.find(handle);
  if (!found->second.isReleased || found->second.isMapped) return;
  changeUsedBytes(-static_cast<int64_t>(found->second.bytes));
  created.erase(found);
}

void* pointer(uint64_t address) { return reinterpret_cast<void*>(address); }

}  // namespace

API cuMemGetInfo_v2(size_t* free, size_t* total) {
  NEEDS();
  *total = settings.memoryBytes;
  *free = settings.memoryBytes - std::min(usedBytes(), settings.memoryBytes);
  return SUCCESS;
}
API cuMemGetAllocationGranularity(size_t* bytes, const Properties* properties, int option) {
  *bytes = GRANULARITY;
  const Result why = unlike(*properties);
  return why == SUCCESS ? check(option == 0, INVALID_VALUE, "the least granularity is meant") : why;
}

API cuMemAddressReserve(uint64_t* address, size_t bytes, size_t alignment, uint64_t wanted, unsigned long long flags) {
  NEEDS();
  if (bytes == 0 || bytes % GRANULARITY != 0) return check(false, INVALID_VALUE, "a range is a multiple of 2 MiB");
  if (alignment != 0 || wanted != 0 || flags != 0) return check(false, INVALID_VALUE, "a range anywhere is meant");
  // At a multiple of the granularity, as a driver's ranges are.
  void* range = mmap(nullptr, bytes + GRANULARITY, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return check(false, OUT_OF_MEMORY, "the host has no such range of addresses");
  const auto begin = reinterpret_cast<uint64_t>(range);
  const size_t before = GRANULARITY - begin % GRANULARITY;
  *address = begin + before;
  munmap(range, before);
  if (before < GRANULARITY) munmap(pointer(*address + bytes), GRANULARITY - before);
  reserved[*address] = bytes;
  return SUCCESS;
}
API cuMemAddressFree(uint64_t address, size_t bytes) {
  const auto within = mapped.lower_bound(address);
  if (within != mapped.end() && within->first < address + bytes) return check(false, INVALID_VALUE, "memory is mapped there");
  const auto found = reserved.find(address);
  if (found == reserved.end() || found->second != bytes) return check(false, INVALID_VALUE, "there is no such range");
  reserved.erase(found);
  return check(munmap(pointer(address), bytes) == 0, INVALID_VALUE, "there is no such range");
}

API cuMemCreate(uint64_t* handle, size_t bytes, const Properties* properties, unsigned long long flags) {
  NEEDS();
  if (bytes == 0 || bytes % GRANULARITY != 0) return check(false, INVALID_VALUE, "memory comes in multiples of 2 MiB");
  if (const Result why = unlike(*properties); why != SUCCESS) return why;
  if (flags != 0) return check(false, INVALID_VALUE, "memory without flags is meant");
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
API cuMemMap(uint64_t address, size_t bytes, size_t offset, uint64_t handle, unsigned long long flags) {
  NEEDS();
  if (flags != 0 || address % GRANULARITY != 0 || rangeOf(address, bytes) == 0) {
    return check(false, INVALID_VALUE, "memory is mapped to a range that was reserved, at a multiple of 2 MiB");
  }
  const auto next = mapped.lower_bound(address);
  const bool isFree = (next == mapped.end() || next->first >= address + bytes) &&
                      (next == mapped.begin() || std::prev(next)->first + created[std::prev(next)->second].bytes <= address);
  if (!isFree) return check(false, INVALID_VALUE, "memory is mapped there already");
  const auto found = created.find(handle);
  const bool isRight = found != created.end() && !found->second.isMapped && offset == 0 && bytes == found->second.bytes;
  if (!isRight) return check(false, INVALID_VALUE, "memory is mapped once here, and as a whole");
  found->second.isMapped = true;
  mapped[address] = handle;
  return SUCCESS;
}
API cuMemSetAccess(uint64_t address, size_t bytes, const Access* access, size_t count) {
  NEEDS();
  if (!isWhole(address, bytes)) return check(false, INVALID_VALUE, "access is given to what was mapped, as a whole");
  if (count != 1 || !isHere(access->location) || access->flags != READ_WRITE) {
    return check(false, INVALID_VALUE, "the device itself is to read and write");
  }
  return check(mprotect(pointer(address), bytes, PROT_READ | PROT_WRITE) == 0, INVALID_VALUE, "the host refuses access");
}
API cuMemUnmap(uint64_t address, size_t bytes) {
  NEEDS();
  if (!isWhole(address, bytes)) return check(false, INVALID_VALUE, "memory is unmapped as it was mapped");
  const auto found = mapped.find(address);
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
