/** Runs blocks: fibers for threads, barriers, and the operations of a whole warp. */

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>

#include <dlfcn.h>
#include <sys/mman.h>

#include "copyEngine.h"
#include "fiber.h"
#include "tensorCore.h"

namespace emulator {

Builtins builtins;
Settings settings;
Statistics statistics;

namespace {

enum Operation { OTHER, BARRIER, WARP_BARRIER, EXCHANGE, MULTIPLY, LOAD };

/** What a lane hands over, and what it gets. */
struct Slot {
  FragmentA a;
  FragmentB b;
  FragmentC c;
  Matrices m;
  const void* address;
  uint64 bits;
};

struct Warp {
  Meeting meeting;
  uint32_t barriers = 0;
  /** For two rounds: a lane may be one round ahead of those that still read. */
  Slot slots[2][LANES];
};

struct Copy {
  void* to;
  const void* from;
  bool isThere;
  /** What it reads, and nobody may change while it is under way. */
  std::array<unsigned char, 16> bytes;
};

struct Fiber {
  Context context;
  const Meeting* waitsAt;
  uint32_t waitsFor;
  /** Besides. */
  Condition condition;
  bool done;
  std::vector<std::vector<Copy>> copies;
};

unsigned char* const stacks = static_cast<unsigned char*>(
    mmap(nullptr, MOST_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
unsigned char* const shared = static_cast<unsigned char*>(std::aligned_alloc(1024, MOST_SHARED_BYTES));

const Launch* launched = nullptr;
Context host;
std::vector<Fiber> fibers;
std::vector<Warp> warps;
/** Numbers of the threads, as they take turns. */
std::vector<int> turns;
size_t turn;
int current, live;
Meeting blockMeeting;
// Number 1 stands for the host (`memory.cc`).
uint32_t blockNumber = 1, firstNumber = 2, barriers;
bool failed;
std::string failure;

Warp& warp() { return warps[current / LANES]; }
int lane() { return current % LANES; }

void become(int thread) {
  current = thread;
  builtins.thread.x = static_cast<uint32>(thread);
}

bool canRun(const Fiber& fiber) {
  if (fiber.done || (fiber.waitsAt && fiber.waitsAt->round < fiber.waitsFor)) return false;
  return !fiber.condition.isMet || fiber.condition.isMet(fiber.condition.what);
}

[[noreturn]] void faultStuck() {
  for (const int thread : turns) {
    const auto& [isMet, describe, what, place] = fibers[thread].condition;
    if (fibers[thread].done || !isMet || isMet(what)) continue;
    current = thread;
    fault(describe(what), place);
  }
  fault("threads wait for others that never come: a barrier, or an operation of a warp, that not all reach");
}

/** Lets another thread run, one that waits for nothing. */
void yield() {
  Fiber& from = fibers[current];
  do {
    for (size_t tries = 0; tries < turns.size(); tries++) {
      if (++turn == turns.size()) turn = 0;
      Fiber& next = fibers[turns[turn]];
      if (!canRun(next)) continue;
      next.waitsAt = nullptr;
      next.condition = {};
      become(turns[turn]);
      statistics.switches++;
      if (&next != &from) switchTo(from.context, next.context);
      return;
    }
    // When no thread can go on, a tile may come.
  } while (live > 0 && hasClocks() && bringTile());
  if (live > 0) faultStuck();
  switchTo(from.context, host);
}

/** @param place in the kernel's code, where all who meet come to it; none where they may come from several */
template <typename Work>
void meet(Meeting& meeting, int expected, Operation operation, Work work, const void* place = nullptr) {
  if (meeting.arrived > 0 && meeting.operation != operation) fault("lanes of a warp meet at different operations");
  if (isWatching && meeting.arrived > 0 && meeting.place != place) {
    fault(operation == BARRIER ? "comes to a barrier of the block in another branch than other threads"
                               : "comes to an operation of a warp in another branch than other lanes",
          place);
  }
  meeting.operation = operation;
  meeting.place = place;
  const uint32_t round = meeting.round;
  if (++meeting.arrived == expected) {
    meeting.arrived = 0;
    work();
    meeting.round++;
    return;
  }
  fibers[current].waitsAt = &meeting;
  fibers[current].waitsFor = round + 1;
  yield();
}

/** An operation of all lanes: each hands over a slot, the last one to come does the work on all, each gets its slot back. */
template <typename Work>
const Slot& together(Operation operation, const Slot& own, const void* place, Work work) {
  Warp& here = warp();
  Slot* slots = here.slots[here.meeting.round & 1];
  const int mine = lane();
  slots[mine] = own;
  meet(here.meeting, LANES, operation, [&] { work(slots); }, place);
  return slots[mine];
}

void threadBegins() {
  launched->kernel->entry();
  if (hasClocks()) {
    checkProducts();
    checkCopies(live == 1);
    if (live == 1) checkRegisters();
  }
  fibers[current].done = true;
  live--;
  // Threads that have ended no longer count at a barrier.
  if (live > 0 && blockMeeting.arrived == live) {
    blockMeeting.arrived = 0;
    blockMeeting.round++;
    barriers++;
    if (hasClocks()) joinThreads();
  }
  yield();
}

/** Registers of each thread, as the compiler gives them to a kernel that says how many threads and blocks it has, and what nobody has. */
void beginRegistersAndBarriers() {
  constexpr int MOST_REGISTERS = 65536, STEP = 8, MOST_OF_THREAD = 255;
  const int threads = launched->threads, ofBlock = MOST_REGISTERS / launched->kernel->blocks;
  const int each = std::min(MOST_OF_THREAD, ofBlock / threads / STEP * STEP);
  beginBarriers(threads, each, (ofBlock - each * threads) / WARPGROUP);
}

void runBlock(Index block) {
  builtins.block = block;
  blockNumber++;
  barriers = 0;
  blockMeeting = {};
  std::fill_n(shared, launched->sharedBytes, 0xff);
  forgetShared();
  for (Warp& each : warps) each.meeting = {}, each.barriers = 0;
  live = launched->threads;
  if (hasClocks()) {
    beginOrder(live);
    beginRegistersAndBarriers();
    beginCopyEngine(live);
    beginWarpgroups(live);
  }
  for (int i = 0; i < live; i++) {
    fibers[i].waitsAt = nullptr;
    fibers[i].condition = {};
    fibers[i].done = false;
    fibers[i].copies.assign(1, {});
    fibers[i].context.prepare(stacks + i * STACK_BYTES, threadBegins);
  }
  turn = 0;
  become(turns[0]);
  switchTo(host, fibers[current].context);
}

std::vector<int> inOrder(int count, uint64_t salt) {
  std::vector<int> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (settings.order == Order::backward) std::reverse(order.begin(), order.end());
  if (settings.order == Order::shuffled) std::shuffle(order.begin(), order.end(), std::mt19937_64(settings.seed + salt));
  return order;
}

std::string nameOf(int thread, Index block) {
  return "thread " + std::to_string(thread) + " of block (" + std::to_string(block.x) + ", " + std::to_string(block.y) + ", " +
         std::to_string(block.z) + ")";
}

}  // namespace

bool run(const Launch& launch) {
  launched = &launch;
  fibers.resize(launch.threads);
  warps.resize(launch.threads / LANES);
  builtins.threads = {static_cast<uint32>(launch.threads), 1, 1};
  builtins.blocks = launch.blocks;
  builtins.thread = {};
  failed = false;
  firstNumber = blockNumber + 1;
  const int width = launch.blocks.x, height = launch.blocks.y;
  for (const int b : inOrder(width * height * launch.blocks.z, 0)) {
    turns = inOrder(launch.threads, static_cast<uint64_t>(b) + 1);
    runBlock({static_cast<uint32>(b % width), static_cast<uint32>(b / width % height), static_cast<uint32>(b / (width * height))});
    if (failed) break;
  }
  launched = nullptr;
  return !failed;
}

void fault(const std::string& what, const void* place) {
  failed = true;
  failure = launched->kernel->name + ", " + nameOf(current, builtins.block) + ": " + what;
  Dl_info library;
  // The call lies before the address that it returns to.
  if (place && dladdr(place, &library)) {
    const auto offset = static_cast<const char*>(place) - static_cast<const char*>(library.dli_fbase) - 1;
    failure += " @" + std::string(library.dli_fname) + "+" + std::to_string(offset);
  }
  switchTo(fibers[current].context, host);
  std::abort();
}

bool refuse(const std::string& what) {
  failure = what;
  return false;
}

const std::string& faultText() { return failure; }

Moment now() { return {blockNumber, barriers, warp().barriers, static_cast<uint16_t>(current)}; }
uint32_t firstBlock() { return firstNumber; }
uint32_t lastNumber() { return blockNumber; }
uint32_t takeNumber() { return ++blockNumber; }
bool isRunning() { return launched != nullptr; }
bool hasClocks() { return launched->kernel->isHopper; }

bool meet(Meeting& meeting, int expected, bool waits) {
  if (waits) return meet(meeting, expected, OTHER, [] {}), true;
  if (++meeting.arrived == expected) {
    meeting.arrived = 0;
    meeting.round++;
  }
  return false;
}

void meetAsWarpgroup(Meeting& meeting, const void* place, const std::function<void()>& work) {
  meet(meeting, WARPGROUP, OTHER, work, place);
}

void waitUntil(const Condition& condition) {
  if (condition.isMet(condition.what)) return;
  fibers[current].condition = condition;
  yield();
}

std::vector<int> runningThreads() {
  std::vector<int> running;
  for (int i = 0; i < launched->threads; i++) {
    if (!fibers[i].done) running.push_back(i);
  }
  return running;
}
bool isOnStack(uintptr_t address) { return address - reinterpret_cast<uintptr_t>(stacks) < MOST_THREADS * STACK_BYTES; }
unsigned char* sharedBytes() { return shared; }
size_t sharedSize() { return launched->sharedBytes; }

void syncBlock() {
  const auto join = [] {
    barriers++;
    if (hasClocks()) joinThreads();
  };
  meet(blockMeeting, live, BARRIER, join, __builtin_return_address(0));
}

void syncWarp(uint32 mask) {
  if (mask != 0xffffffffu) fault("a barrier of a part of a warp, which kernels of the house do not use");
  const auto join = [] {
    warp().barriers++;
    if (hasClocks()) joinLanes();
  };
  meet(warp().meeting, LANES, WARP_BARRIER, join, __builtin_return_address(0));
}

uint64 exchange(uint32 mask, uint64 bits, int source) {
  if (mask != 0xffffffffu) fault("an exchange among a part of a warp, which kernels of the house do not use");
  Warp& here = warp();
  const Slot* slots = here.slots[here.meeting.round & 1];
  Slot own;
  own.bits = bits;
  together(EXCHANGE, own, __builtin_return_address(0), [](Slot*) {});
  return slots[source].bits;
}

FragmentC multiply(FragmentC c, FragmentA a, FragmentB b) {
  Slot own;
  own.a = a;
  own.b = b;
  own.c = c;
  return together(MULTIPLY, own, __builtin_return_address(0), [](Slot* slots) {
           float left[16][16], right[8][16];
           Factors rows[16], columns[8];
           for (int i = 0; i < LANES; i++) {
             const int group = i / 4, pair = i % 4 * 2;
             const Slot& slot = slots[i];
             for (int word = 0; word < 2; word++) {
               for (int half = 0; half < 2; half++) {
                 const auto value = [&](uint32 r) { return toFloat(bf16{static_cast<uint16>(r >> 16 * half)}); };
                 left[group][pair + 8 * word + half] = value(slot.a.r[2 * word]);
                 left[group + 8][pair + 8 * word + half] = value(slot.a.r[2 * word + 1]);
                 right[group][pair + 8 * word + half] = value(slot.b.r[word]);
               }
             }
           }
           for (int i = 0; i < 16; i++) rows[i] = Factors(left[i]);
           for (int i = 0; i < 8; i++) columns[i] = Factors(right[i]);
           for (int i = 0; i < LANES; i++) {
             for (int e = 0; e < 4; e++) {
               float& sum = slots[i].c.v[e];
               sum = sumOf16(rows[i / 4 + e / 2 * 8], columns[i % 4 * 2 + e % 2], sum, settings.arithmetic);
             }
           }
           statistics.products++;
         })
      .c;
}

Matrices load(const void* row, bool transposed) {
  const void* place = __builtin_return_address(0);
  align(row, 16, place);
  look(row, 16, false, place);
  Slot own;
  own.address = row;
  return together(LOAD, own, place,
                  [transposed](Slot* slots) {
                    for (int matrix = 0; matrix < 4; matrix++) {
                      const auto at = [&](int i) { return static_cast<const uint16*>(slots[matrix * 8 + i].address); };
                      // Eight rows of 16 bytes come at once where they lie in different banks.
                      int uses[8] = {};
                      for (int i = 0; i < 8; i++) uses[reinterpret_cast<uintptr_t>(at(i)) / 16 % 8]++;
                      statistics.bankConflicts += static_cast<uint64_t>(*std::max_element(uses, uses + 8) - 1);
                      for (int i = 0; i < LANES; i++) {
                        const int major = i / 4, minor = i % 4 * 2;
                        const uint16 low = transposed ? at(minor)[major] : at(major)[minor];
                        const uint16 high = transposed ? at(minor + 1)[major] : at(major)[minor + 1];
                        slots[i].m.r[matrix] = low | static_cast<uint32>(high) << 16;
                      }
                    }
                    statistics.matrixLoads++;
                  })
      .m;
}

void beginCopy(void* to, const void* from, bool isThere) {
  const void* place = __builtin_return_address(0);
  align(to, 16, place);
  align(from, 16, place);
  if (isThere) look(from, 16, false, place);
  look(to, 16, true, place);
  // Until it is waited for, nobody knows what is there.
  std::fill_n(static_cast<unsigned char*>(to), 16, 0xff);
  markUnderWay(to, 16, true);
  Copy copy = {to, from, isThere, {}};
  if (isThere) std::copy_n(static_cast<const unsigned char*>(from), 16, copy.bytes.begin());
  fibers[current].copies.back().push_back(copy);
}

void commitCopies() { fibers[current].copies.push_back({}); }

void waitForCopies(int underWay) {
  const void* place = __builtin_return_address(0);
  auto& groups = fibers[current].copies;
  while (groups.size() > static_cast<size_t>(underWay) + 1) {
    for (const auto& [to, from, isThere, bytes] : groups.front()) {
      if (isThere && std::memcmp(from, bytes.data(), 16) != 0) fault("waits for a copy of what was changed since it began", place);
      markUnderWay(to, 16, false);
      look(to, 16, true, place);
      std::copy(bytes.begin(), bytes.end(), static_cast<unsigned char*>(to));
    }
    groups.erase(groups.begin());
  }
}

void checkAlignment(const void* p, int bytes) { align(p, static_cast<size_t>(bytes), __builtin_return_address(0)); }

void* sharedMemory(size_t bytes) {
  if (bytes > launched->sharedBytes) {
    fault("uses " + std::to_string(bytes) + " bytes of shared memory, but the launch asked for " +
              std::to_string(launched->sharedBytes),
          __builtin_return_address(0));
  }
  return shared;
}

}  // namespace emulator
