/**
 * Device memory, and a watch over what kernels touch. The compiler calls `__tsan_…` for each access (`-fsanitize=thread`), as it
 * would for the thread sanitizer; here these calls look for what a GPU forgives only by luck:
 *
 *  - addresses outside of an allocation, of shared memory as large as the launch asked for, or not aligned;
 *  - memory that is read before anything was written to it, or while a copy to it is under way;
 *  - races: two threads touch the same bytes, one of them writes, and no barrier lies between. Threads of different blocks have no
 *    barrier; lanes of a warp have `__syncwarp`. Streams have events (`streamOrder.h`).
 */

#include <algorithm>
#include <cstdlib>
#include <map>

#include <dlfcn.h>

#include "copyEngine.h"
#include "streamOrder.h"

namespace emulator {

namespace {

/** Kernels touch two bytes at least. */
constexpr size_t CELL_BYTES = 2;

enum : uint16_t {
  /** Since the moment of the last read, another warp has read, another lane of this warp, another block. */
  WARPS = 1,
  LANES_OF_WARP = 2,
  BLOCKS = 4,
  UNDER_WAY = 8,
};

struct Touch {
  /** 0: never. */
  uint32_t block;
  uint32_t barriers, warpBarriers;
  uint16_t thread, more;
};

/** Who touched some bytes last. */
struct Cell {
  Touch write, read;
};

struct Allocation {
  uintptr_t begin;
  size_t bytes;
  /** None where nobody watches. */
  Cell* cells;
};

std::map<uintptr_t, Allocation> allocations;
/** Bytes of what has memory of its own, by its begin. An arena may have divided it into allocations. */
std::map<uintptr_t, size_t> owned;
size_t used = 0;
/** The allocation that the code of a place touched last. */
const Allocation* recent[256];

Cell sharedCells[MOST_SHARED_BYTES / CELL_BYTES];

uintptr_t addressOf(const void* p) { return reinterpret_cast<uintptr_t>(p); }

const Allocation* allocationAt(uintptr_t address) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return nullptr;
  const Allocation& allocation = std::prev(next)->second;
  return address - allocation.begin < allocation.bytes ? &allocation : nullptr;
}

std::string bytesWord(size_t bytes) { return std::to_string(bytes) + " bytes"; }

[[noreturn]] void faultOutside(uintptr_t address, size_t bytes, bool isWrite, const void* place) {
  std::string where = ", which belong to no allocation";
  const auto next = allocations.upper_bound(address);
  if (next != allocations.begin()) {
    const Allocation& before = std::prev(next)->second;
    where = ", " + bytesWord(address - before.begin) + " after the begin of an allocation of " + bytesWord(before.bytes);
  }
  fault(std::string(isWrite ? "writes " : "reads ") + bytesWord(bytes) + " outside of device memory" + where, place);
}

[[noreturn]] void faultRace(const Touch& other, bool otherWrote, bool isWrite, const void* place) {
  const bool inBlock = other.block == now().block;
  fault(std::string(isWrite ? "writes" : "reads") + " what thread " + std::to_string(other.thread) +
            (inBlock ? " of the block" : " of another block") + (otherWrote ? " writes" : " reads") +
            ", and no barrier lies between",
        place);
}

/** What is wrong with touching what other streams touched last; null where nothing is. */
const char* wrongOrder(const Cell& cell, bool isWrite) {
  if (isUnknown(cell.write.block)) return " what another stream writes, and no event that was waited for lies between";
  if (isWrite && isUnknown(cell.read.block)) return " what another stream reads, and no event that was waited for lies between";
  return nullptr;
}

/** Whether nothing keeps the current thread from what another one did. */
bool isRace(const Touch& other, const Moment& moment) {
  if (other.block < firstBlock()) return false;
  if (other.block != moment.block) return true;
  if (other.thread == moment.thread || other.barriers != moment.barriers) return false;
  return other.thread / LANES != moment.thread / LANES || other.warpBarriers == moment.warpBarriers;
}

bool isReadRace(const Touch& reads, const Moment& moment) {
  if (reads.block < firstBlock()) return false;
  if (reads.more & BLOCKS || isRace(reads, moment)) return true;
  if (reads.block != moment.block || reads.barriers != moment.barriers) return false;
  return reads.more & WARPS || (reads.more & LANES_OF_WARP && reads.warpBarriers == moment.warpBarriers);
}

void noteRead(Touch& reads, const Moment& moment) {
  // Whoever writes there must know of it.
  if (isUnknown(reads.block)) return;
  uint16_t more = 0;
  if (reads.block >= firstBlock()) {
    more = reads.more & BLOCKS;
    if (reads.block != moment.block) {
      more = BLOCKS;
    } else if (reads.barriers == moment.barriers) {
      more |= reads.more & WARPS;
      if (reads.thread / LANES != moment.thread / LANES) more |= WARPS;
      if (reads.warpBarriers == moment.warpBarriers) {
        more |= reads.more & LANES_OF_WARP;
        if (reads.thread != moment.thread) more |= LANES_OF_WARP;
      }
    }
  }
  reads = {moment.block, moment.barriers, moment.warpBarriers, moment.thread, more};
}

void touch(Cell* first, size_t count, bool isWrite, const void* place) {
  if (!isWatching) return;
  const Moment moment = now();
  for (Cell* cell = first; cell < first + count; cell++) {
    if (const char* wrong = wrongOrder(*cell, isWrite)) fault((isWrite ? "writes" : "reads") + std::string(wrong), place);
    if (isRace(cell->write, moment)) faultRace(cell->write, true, isWrite, place);
    if (isWrite) {
      if (isReadRace(cell->read, moment)) faultRace(cell->read, false, true, place);
      if (cell->write.more & UNDER_WAY) fault("writes what a copy is bringing: waitForCopies is missing", place);
      cell->write = {moment.block, moment.barriers, moment.warpBarriers, moment.thread, 0};
    } else {
      if (cell->write.block == 0) fault("reads what nobody has written", place);
      if (cell->write.more & UNDER_WAY) fault("reads what a copy has not brought yet: waitForCopies is missing", place);
      noteRead(cell->read, moment);
    }
  }
}

size_t cellsOf(uintptr_t offset, size_t bytes) { return (offset % CELL_BYTES + bytes + CELL_BYTES - 1) / CELL_BYTES; }

}  // namespace

void look(const void* p, size_t bytes, bool isWrite, const void* place) {
  if (!isRunning()) return;
  const uintptr_t address = addressOf(p);
  if (isOnStack(address)) {
    if (hasClocks()) lookAtRegisters(address, bytes, isWrite, place);
    return;
  }
  const uintptr_t offset = address - addressOf(sharedBytes());
  if (offset < MOST_SHARED_BYTES) {
    if (offset + bytes > sharedSize()) fault("goes beyond the " + bytesWord(sharedSize()) + " of shared memory", place);
    if (hasClocks()) return touchShared(offset, bytes, isWrite, place);
    return touch(sharedCells + offset / CELL_BYTES, cellsOf(offset, bytes), isWrite, place);
  }
  if (address - addressOf(&builtins) < sizeof builtins && !isWrite) return;
  const Allocation*& allocation = recent[addressOf(place) / 4 % 256];
  if (!allocation || address - allocation->begin >= allocation->bytes) allocation = allocationAt(address);
  if (!allocation) {
    // Constants of the kernel's own.
    Dl_info library;
    if (!isWrite && dladdr(p, &library)) return;
    faultOutside(address, bytes, isWrite, place);
  }
  const size_t at = address - allocation->begin;
  if (at + bytes > allocation->bytes) faultOutside(address, bytes, isWrite, place);
  if (allocation->cells) touch(allocation->cells + at / CELL_BYTES, cellsOf(at, bytes), isWrite, place);
}

void align(const void* p, size_t alignment, const void* place) {
  if (isRunning() && addressOf(p) % alignment != 0) {
    fault("an address that is no multiple of " + bytesWord(alignment) + ", as the access needs", place);
  }
}

void markUnderWay(const void* p, size_t bytes, bool isUnderWay) {
  if (!isWatching) return;
  if (hasClocks()) return markSharedUnderWay(addressOf(p) - addressOf(sharedBytes()), bytes, isUnderWay);
  Cell* const first = sharedCells + (addressOf(p) - addressOf(sharedBytes())) / CELL_BYTES;
  for (Cell* cell = first; cell < first + bytes / CELL_BYTES; cell++) {
    cell->write.more = isUnderWay ? cell->write.more | UNDER_WAY : cell->write.more & ~UNDER_WAY;
  }
}

void forgetShared() {
  if (isWatching && !hasClocks()) std::fill_n(sharedCells, (sharedSize() + CELL_BYTES - 1) / CELL_BYTES, Cell{});
}

bool isWatching = true;

size_t usedBytes() { return used; }
void changeUsedBytes(int64_t more) { used += static_cast<size_t>(more); }

std::string take(uint64_t address, size_t bytes) {
  const auto next = allocations.lower_bound(address + bytes);
  if (next != allocations.begin()) {
    const Allocation& before = std::prev(next)->second;
    if (before.begin + before.bytes > address) {
      // What an arena divides is no allocation any longer.
      const auto whole = owned.find(before.begin);
      if (whole == owned.end() || whole->second != before.bytes || before.bytes == bytes) return "bytes that are in use already";
      give(before.begin);
    }
  }
  // All bits set: not a number, for whoever looks from the host.
  std::fill_n(reinterpret_cast<unsigned char*>(address), bytes, 0xff);
  auto* cells = isWatching ? static_cast<Cell*>(std::calloc(bytes / CELL_BYTES + 1, sizeof(Cell))) : nullptr;
  allocations[address] = {address, bytes, cells};
  return "";
}

std::string give(uint64_t address) {
  const auto found = allocations.find(address);
  if (found == allocations.end()) return "no allocation begins there";
  const Allocation& allocation = found->second;
  const char* wrong = nullptr;
  // Whoever has the memory next writes to it.
  if (allocation.cells && firstUnknown != UINT32_MAX) {
    for (size_t i = 0; i < allocation.bytes / CELL_BYTES && !wrong; i++) wrong = wrongOrder(allocation.cells[i], true);
  }
  std::free(allocation.cells);
  allocations.erase(found);
  std::fill_n(recent, std::size(recent), nullptr);
  return wrong ? "memory is given back:" + std::string(wrong) : "";
}

uint64_t allocate(size_t bytes) {
  // A gap that belongs to no allocation lies behind each, so that who goes beyond the end is seen.
  constexpr size_t GAP = 256;
  void* const memory = std::aligned_alloc(512, (bytes + GAP + 511) / 512 * 512);
  if (!memory) return 0;
  owned[addressOf(memory)] = bytes;
  used += bytes;
  take(addressOf(memory), bytes);
  return addressOf(memory);
}

bool release(uint64_t address) {
  const auto found = owned.find(address);
  if (found == owned.end()) return false;
  used -= found->second;
  owned.erase(found);
  give(address);
  std::free(reinterpret_cast<void*>(address));
  return true;
}

std::string lookAtCopy(uint64_t address, size_t bytes, Touching touching) {
  if (bytes == 0) return "";
  const bool isWrite = touching == Touching::writes;
  const std::string verb = touching == Touching::sends ? "sends" : isWrite ? "writes" : "reads";
  const Allocation* allocation = allocationAt(address);
  if (!allocation || address - allocation->begin + bytes > allocation->bytes) {
    return verb + " bytes that do not lie in one allocation";
  }
  if (!allocation->cells) return "";
  const size_t at = address - allocation->begin;
  const Touch touch = {takeNumber(), 0, 0, 0, 0};
  Cell* const first = allocation->cells + at / CELL_BYTES;
  for (Cell* cell = first; cell < first + cellsOf(at, bytes); cell++) {
    if (const char* wrong = wrongOrder(*cell, isWrite)) return verb + wrong;
    if (touching == Touching::sends && cell->write.block == 0 && settings.runsKernels) return "sends what nobody has written";
    if (isWrite) *cell = {touch, {}};
    else if (!isUnknown(cell->read.block)) cell->read = touch;
  }
  return "";
}

}  // namespace emulator

// What the compiler calls. Accesses that it does not know to be aligned (`unaligned`) are parts of larger ones.

#define PLACE __builtin_return_address(0)
#define ACCESS(size)                                                                            \
  extern "C" EMULATOR void __tsan_read##size(void* p) {                                         \
    emulator::align(p, size, PLACE);                                                            \
    emulator::look(p, size, false, PLACE);                                                      \
  }                                                                                             \
  extern "C" EMULATOR void __tsan_write##size(void* p) {                                        \
    emulator::align(p, size, PLACE);                                                            \
    emulator::look(p, size, true, PLACE);                                                       \
  }                                                                                             \
  extern "C" EMULATOR void __tsan_unaligned_read##size(void* p) { emulator::look(p, size, false, PLACE); } \
  extern "C" EMULATOR void __tsan_unaligned_write##size(void* p) { emulator::look(p, size, true, PLACE); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
extern "C" EMULATOR void __tsan_read_range(void* p, unsigned long bytes) { emulator::look(p, bytes, false, PLACE); }
extern "C" EMULATOR void __tsan_write_range(void* p, unsigned long bytes) { emulator::look(p, bytes, true, PLACE); }
extern "C" EMULATOR void __tsan_init() {}
extern "C" EMULATOR void __tsan_func_entry(void*) {}
extern "C" EMULATOR void __tsan_func_exit() {}
