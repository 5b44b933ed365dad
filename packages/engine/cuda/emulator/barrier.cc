/** Barriers that lie in shared memory, those that have numbers, and registers that warpgroups give up to each other. */

#include <algorithm>

#include "copyEngine.h"

namespace emulator {

namespace {

struct State {
  const Barrier* at;
  int expected, arrived = 0;
  /** Of the phase that has not ended; below 0 where more have come than are expected. */
  int64_t missingBytes = 0;
  uint32_t phases = 0;
  Mark initialised;
  bool isPublished = false;
  /** Of those that have arrived, and of those that had at the end of the last phase. */
  Knowledge arriving, ended;
};
std::vector<State> barriers;

struct Named {
  Meeting meeting;
  int threads = 0;
  Knowledge arriving[2];
};
constexpr int NAMED = 16;
Named named[NAMED];

/** What a thread waits for. */
struct Wait {
  int barrier;
  uint32_t parity;
};
std::vector<Wait> waits;

/** Of each thread of a warpgroup, and what none has. */
std::vector<int> registersOf;
int freeRegisters;
Meeting changes[WARPGROUPS];

void checkNumber(int barrier, const void* place) {
  if (barrier < 0) fault("uses a barrier that was not initialised", place);
  const State& state = barriers[barrier];
  if (!knows(state.initialised)) {
    fault("uses a barrier that thread " + std::to_string(state.initialised.by) + " initialises, and no barrier of the block lies between",
          place);
  }
}

void endPhase(int number) {
  State& state = barriers[number];
  if (state.arrived < state.expected || state.missingBytes != 0) return;
  if (tilesUnderWay(number) > 0) {
    fault("a barrier's phase ends before " + std::to_string(tilesUnderWay(number)) +
          " of its tile copies: expectBytes is missing, or says too few");
  }
  state.arrived = 0;
  state.phases++;
  state.ended = state.arriving;
}

bool hasEnded(const void* what) {
  const Wait& wait = *static_cast<const Wait*>(what);
  return (barriers[wait.barrier].phases & 1) != wait.parity;
}
std::string describeWait(const void* what) {
  const Wait& wait = *static_cast<const Wait*>(what);
  const State& state = barriers[wait.barrier];
  return "waits for the end of a barrier's phase of parity " + std::to_string(wait.parity) + " that never comes: it is in phase " +
         std::to_string(state.phases) + ", with " + std::to_string(state.arrived) + " of " + std::to_string(state.expected) +
         " arrivals, and " + std::to_string(state.missingBytes) + " bytes missing";
}

}  // namespace

void beginBarriers(int threads, int registers, int spare) {
  barriers.clear();
  waits.assign(static_cast<size_t>(threads), {});
  for (Named& each : named) each = {};
  registersOf.assign((threads + WARPGROUP - 1) / WARPGROUP, registers);
  freeRegisters = spare;
  for (Meeting& each : changes) each = {};
}

int barrierAt(const Barrier* barrier, const void* place) {
  const auto found = std::find_if(barriers.begin(), barriers.end(), [&](const State& each) { return each.at == barrier; });
  const int number = found == barriers.end() ? -1 : static_cast<int>(found - barriers.begin());
  checkNumber(number, place);
  return number;
}
bool isPublished(int barrier) { return barriers[barrier].isPublished; }
Clock currentPhase(int barrier) { return static_cast<Clock>(barriers[barrier].phases + 1); }
void bytesHaveCome(int barrier, size_t bytes) {
  barriers[barrier].missingBytes -= static_cast<int64_t>(bytes);
  endPhase(barrier);
}

void initializeBarrier(Barrier* barrier, int arrivals) {
  const void* place = __builtin_return_address(0);
  align(barrier, sizeof(Barrier), place);
  look(barrier, sizeof(Barrier), true, place);
  if (arrivals < 1) fault("a barrier of no arrivals", place);
  const auto found = std::find_if(barriers.begin(), barriers.end(), [&](const State& each) { return each.at == barrier; });
  if (found != barriers.end()) fault("initialises a barrier that is one", place);
  if (barriers.size() == MOST_BARRIERS) fault("more barriers than the emulator counts", place);
  barriers.push_back({barrier, arrivals});
  barriers.back().initialised = ownMark();
}

void publishBarriers() {
  for (State& state : barriers) {
    if (state.initialised.by == ownMark().by) state.isPublished = true;
  }
}

void arriveAt(Barrier* barrier, uint32 bytes) {
  State& state = barriers[barrierAt(barrier, __builtin_return_address(0))];
  state.missingBytes += bytes;
  state.arrived++;
  release(state.arriving);
  endPhase(static_cast<int>(&state - barriers.data()));
}

void waitForBarrier(Barrier* barrier, int parity) {
  const void* place = __builtin_return_address(0);
  const int number = barrierAt(barrier, place);
  if (parity != 0 && parity != 1) fault("a parity that is neither 0 nor 1", place);
  Wait& wait = waits[now().thread];
  wait = {number, static_cast<uint32_t>(parity)};
  waitUntil({hasEnded, describeWait, &wait, place});
  acquire(barriers[number].ended);
  learn(ofBarrier(number), static_cast<Clock>(barriers[number].phases));
}

void meetThreads(int number, int threads, bool waits) {
  const void* place = __builtin_return_address(0);
  if (number < 1 || number >= NAMED) fault("a barrier's number from 1 to 15 is meant", place);
  if (threads < LANES || threads % LANES != 0) fault("a barrier of whole warps is meant", place);
  Named& barrier = named[number];
  if (barrier.meeting.arrived > 0 && barrier.threads != threads) fault("threads count differently at a barrier", place);
  barrier.threads = threads;
  Knowledge& all = barrier.arriving[barrier.meeting.round & 1];
  if (barrier.meeting.arrived == 0) all = {};
  release(all);
  if (meet(barrier.meeting, threads, waits)) acquire(all);
}

void changeRegisters(int registers, bool isRaised) {
  const void* place = __builtin_return_address(0);
  if (registers < 24 || registers > 256 || registers % 8 != 0) {
    fault("a number of registers that is no multiple of 8 from 24 to 256", place);
  }
  const int warpgroup = now().thread / WARPGROUP;
  int& own = registersOf[warpgroup];
  // The first thread changes them for all, when all have come.
  meet(changes[warpgroup], WARPGROUP, true);
  if (now().thread % WARPGROUP != 0) return;
  if (isRaised ? registers < own : registers > own) {
    const std::string verb = isRaised ? "raises" : "lowers";
    fault("has " + std::to_string(own) + " registers, and " + verb + " them to " + std::to_string(registers), place);
  }
  freeRegisters += own - registers;
  own = registers;
}

void checkRegisters() {
  if (freeRegisters < 0) {
    fault("warpgroups have raised their registers by " + std::to_string(-freeRegisters) +
          " a thread more than others have given up, and would wait without end");
  }
}

}  // namespace emulator
