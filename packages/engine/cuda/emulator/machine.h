/** What the emulator's parts know of each other. Kernels see `emulator.h` alone. */
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "../hopper.h"

namespace emulator {

constexpr int LANES = 32;
constexpr int MOST_THREADS = 1024;
/** Of one block, as on sm_90. */
constexpr size_t MOST_SHARED_BYTES = 227 << 10;
constexpr size_t STACK_BYTES = 128 << 10;

/** In which order threads and blocks run. On a GPU any may happen. */
enum class Order { forward, backward, shuffled };
/** How tensor cores add: exactly and rounded once, or as a GPU of a kind does (`tensorCore.h`). */
enum class Arithmetic { exact, ampere, hopper };

struct Settings {
  Order order = Order::forward;
  uint64_t seed = 1;
  Arithmetic arithmetic = Arithmetic::hopper;
  /** Of the device. */
  size_t memoryBytes = size_t{16} << 30;
  bool canMapMemory = true;
  /** Otherwise launches do nothing, for who measures what they cost the host. */
  bool runsKernels = true;
  /** Whether it reads the host's memory by the host's own page tables: a copy from there reads it when its turn comes. */
  bool readsHostPages = false;
};
extern Settings settings;

struct Statistics {
  uint64_t switches = 0, products = 0, matrixLoads = 0, bankConflicts = 0;
};
extern Statistics statistics;

struct Kernel {
  std::string name;
  Entry entry;
  int mostThreads;
  /** Blocks that a multiprocessor is to hold. */
  int blocks;
  /** Whether its threads meet at barriers in shared memory, and who knows of what is watched by clocks (`order.h`). */
  bool isHopper;
  std::vector<Parameter> parameters;
  /** What launches may ask for. */
  size_t mostSharedBytes = 48 << 10;
};

struct Launch {
  const Kernel* kernel;
  Index blocks;
  int threads;
  size_t sharedBytes;
};

/** Runs all blocks. @returns whether all went well; otherwise `faultText()` says what did not */
bool run(const Launch& launch);

/** Ends the launch from within a thread. @param place an address in the kernel's code; null for the caller's */
[[noreturn]] void fault(const std::string& what, const void* place = nullptr);
/** Records what was wrong with a call. @returns false */
bool refuse(const std::string& what);
const std::string& faultText();

/** Where threads meet. The last to arrive does the work, and all go on. */
struct Meeting {
  int arrived = 0;
  uint32_t round = 0;
  int operation = 0;
  /** In the kernel's code, where all have to come from the same. */
  const void* place = nullptr;
};
/** The running thread arrives, and `waits` for the others or goes on. @returns whether it waited */
bool meet(Meeting& meeting, int expected, bool waits);
/** All threads of the running warpgroup, at one place of the kernel's code; the last one does `work`. */
void meetAsWarpgroup(Meeting& meeting, const void* place, const std::function<void()>& work);

/** What a thread waits for, other than a meeting. */
struct Condition {
  bool (*isMet)(const void* what) = nullptr;
  /** For who waits without end. */
  std::string (*describe)(const void* what) = nullptr;
  const void* what = nullptr;
  const void* place = nullptr;
};
void waitUntil(const Condition& condition);
/** Those that have not ended. */
std::vector<int> runningThreads();

// The running thread, for what it touches.

/** The place in time of the running thread: what happens in another interval between barriers is before or after. */
struct Moment {
  /** Number of the block since the process began, from 2; blocks of one launch follow each other. */
  uint32_t block;
  /** Barriers of the block, and of the warp, so far. */
  uint32_t barriers, warpBarriers;
  uint16_t thread;
};
Moment now();
/** Number of the launch's first block. */
uint32_t firstBlock();
/** The last number that a block has, or something else that touches memory. */
uint32_t lastNumber();
uint32_t takeNumber();
bool isRunning();
/** Whether the running kernel is one whose threads meet at barriers in shared memory. */
bool hasClocks();
bool isOnStack(uintptr_t address);
unsigned char* sharedBytes();
size_t sharedSize();

// memory.cc

/** Looks at an access of the running thread, and ends the launch where it is none that a GPU would take well. */
void look(const void* p, size_t bytes, bool isWrite, const void* place);
/** Checks that `p` is a multiple of `alignment`. */
void align(const void* p, size_t alignment, const void* place);
/** While a copy to them is under way, touching these bytes of shared memory is a mistake. */
void markUnderWay(const void* p, size_t bytes, bool isUnderWay);
/** The block's shared memory becomes unwritten. */
void forgetShared();

/** Whether the touches of new allocations are noted. */
extern bool isWatching;

/** Memory of its own, and an allocation. */
uint64_t allocate(size_t bytes);
bool release(uint64_t address);
/** A part of memory that is there becomes an allocation. @returns what is wrong with that; empty where nothing is */
std::string take(uint64_t address, size_t bytes);
std::string give(uint64_t address);
/** Of the device's memory. */
size_t usedBytes();
void changeUsedBytes(int64_t more);
/** Copies may read what nobody has written, and get something; who sends it makes a mistake. */
enum class Touching { reads, sends, writes };
/** What is wrong with it where a copy or a transfer does this to bytes of one allocation; empty where nothing is. */
std::string lookAtCopy(uint64_t address, size_t bytes, Touching touching);

}  // namespace emulator
