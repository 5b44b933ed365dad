#include "order.h"

#include <algorithm>

namespace emulator {

namespace {

enum class Writer : uint8_t { nobody, thread, copyOfThread, copyEngine };

struct Cell {
  Mark write;
  Writer writer = Writer::nobody;
  /** Those of which none knew of another's. */
  std::vector<Mark> reads;
};

constexpr size_t CELL_BYTES = 2;
Cell cells[MOST_SHARED_BYTES / CELL_BYTES];

int threads, agents;
/** By thread, what it knows of each. */
std::vector<Clock> known, published;
std::vector<int> storing;
/** What all threads of each warpgroup know, at the begin of its products. */
Knowledge ofGroups[WARPGROUPS];

Clock* knownTo(int thread) { return known.data() + static_cast<size_t>(thread) * agents; }
Clock* publishedTo(int thread) { return published.data() + static_cast<size_t>(thread) * agents; }
int me() { return now().thread; }

void join(Clock* to, const Clock* from) {
  for (int i = 0; i < agents; i++) to[i] = std::max(to[i], from[i]);
}
void meetKnowledge(Clock* to, const Clock* from) {
  for (int i = 0; i < agents; i++) to[i] = std::min(to[i], from[i]);
}

void tick(int thread) {
  Clock& own = knownTo(thread)[thread];
  if (own == 0xffff) fault("meets others more often than the emulator counts");
  own++;
}

std::string nameOf(int who) { return "thread " + std::to_string(who) + " of the block"; }

/** What was done last, and is not known, in words that follow a verb. */
std::string unknownRead(const Mark& read) {
  if (read.by < threads) return nameOf(read.by) + " reads, and no barrier lies between";
  return read.by < ofBarrier(0) ? "a product reads that was not waited for" : "a tile store reads that was not waited for";
}

void checkWritten(const Cell& cell, const Mark& write, bool isKnown, const std::string& verb, const void* place) {
  if (cell.writer == Writer::nobody) fault(verb + " what nobody has written", place);
  if (cell.writer == Writer::copyOfThread) fault(verb + " what a copy has not brought yet: waitForCopies is missing", place);
  if (isKnown) return;
  if (cell.writer == Writer::copyEngine) {
    fault(verb + " what a tile copy has not brought yet: the end of its barrier's phase was not waited for", place);
  }
  fault(verb + " what " + nameOf(write.by) + " writes, and no barrier lies between", place);
}

/** That whoever writes knows of all reads and writes before. */
void checkFree(const Cell& cell, const std::string& verb, const void* place) {
  if (cell.writer == Writer::copyOfThread) fault(verb + " what a copy is bringing: waitForCopies is missing", place);
  if (cell.writer != Writer::nobody && !knows(cell.write)) {
    if (cell.writer == Writer::copyEngine) fault(verb + " what a tile copy is bringing", place);
    fault(verb + " what " + nameOf(cell.write.by) + " writes, and no barrier lies between", place);
  }
  for (const Mark& read : cell.reads) {
    if (!knows(read)) fault(verb + " what " + unknownRead(read), place);
  }
}

/** Notes a read; those that its reader knows of, and it has read before, say no more than it does. */
void noteRead(Cell& cell, Mark read, const Clock* knownToReader) {
  auto& reads = cell.reads;
  reads.erase(std::remove_if(reads.begin(), reads.end(),
                             [&](const Mark& each) { return each.by == read.by || each.at <= knownToReader[each.by]; }),
              reads.end());
  reads.push_back(read);
}

template <typename F>
void forCells(size_t offset, size_t bytes, F f) {
  const size_t end = (offset + bytes + CELL_BYTES - 1) / CELL_BYTES;
  for (size_t i = offset / CELL_BYTES; i < end; i++) f(cells[i]);
}

/** Reads by what sees only what was published. */
void readBeside(Cell& cell, Mark when, const Clock* knownToAll, const Clock* publishedToAll, const char* verb, const void* place) {
  checkWritten(cell, cell.write, cell.write.at <= knownToAll[cell.write.by], verb, place);
  if (cell.writer == Writer::thread && cell.write.at > publishedToAll[cell.write.by]) {
    fault(std::string(verb) + " what " + nameOf(cell.write.by) + " has written: publishWrites is missing", place);
  }
  noteRead(cell, when, knownToAll);
}

void joinAll(const std::vector<int>& who) {
  Knowledge all = {std::vector<Clock>(agents), std::vector<Clock>(agents)};
  for (const int thread : who) {
    join(all.known.data(), knownTo(thread));
    join(all.published.data(), publishedTo(thread));
  }
  for (const int thread : who) {
    std::copy(all.known.begin(), all.known.end(), knownTo(thread));
    std::copy(all.published.begin(), all.published.end(), publishedTo(thread));
    tick(thread);
  }
}

}  // namespace

int ofWarpgroup(int warpgroup) { return threads + warpgroup; }
int ofBarrier(int barrier) { return threads + WARPGROUPS + barrier; }
int ofStores() {
  auto found = std::find(storing.begin(), storing.end(), me());
  if (found == storing.end()) {
    if (storing.size() == MOST_STORING) fault("more threads store tiles than the emulator counts");
    found = storing.insert(storing.end(), me());
  }
  return ofBarrier(MOST_BARRIERS) + static_cast<int>(found - storing.begin());
}

void beginOrder(int count) {
  threads = count;
  storing.clear();
  if (!isWatching) return;
  agents = ofBarrier(MOST_BARRIERS) + MOST_STORING;
  known.assign(static_cast<size_t>(threads) * agents, 0);
  published.assign(known.size(), 0);
  for (int i = 0; i < threads; i++) knownTo(i)[i] = 1;
  for (size_t i = 0; i < (sharedSize() + CELL_BYTES - 1) / CELL_BYTES; i++) {
    cells[i].writer = Writer::nobody;
    cells[i].reads.clear();
  }
}

Mark ownMark() { return {static_cast<uint16_t>(me()), isWatching ? knownTo(me())[me()] : Clock{0}}; }
bool knows(Mark mark) { return !isWatching || mark.by == me() || mark.at <= knownTo(me())[mark.by]; }
void learn(int who, Clock until) {
  if (isWatching) knownTo(me())[who] = std::max(knownTo(me())[who], until);
}
void release(Knowledge& to) {
  if (!isWatching) return;
  to.known.resize(agents);
  to.published.resize(agents);
  join(to.known.data(), knownTo(me()));
  join(to.published.data(), publishedTo(me()));
  tick(me());
}
void acquire(const Knowledge& from) {
  if (!isWatching || from.known.empty()) return;
  join(knownTo(me()), from.known.data());
  join(publishedTo(me()), from.published.data());
}
void joinThreads() {
  if (isWatching) joinAll(runningThreads());
}
void joinLanes() {
  if (!isWatching) return;
  std::vector<int> lanes(LANES);
  for (int i = 0; i < LANES; i++) lanes[i] = me() / LANES * LANES + i;
  joinAll(lanes);
}

void touchShared(size_t offset, size_t bytes, bool isWrite, const void* place) {
  if (!isWatching) return;
  forCells(offset, bytes, [&](Cell& cell) {
    if (isWrite) {
      checkFree(cell, "writes", place);
      cell.write = ownMark();
      cell.writer = Writer::thread;
      cell.reads.clear();
    } else {
      checkWritten(cell, cell.write, knows(cell.write), "reads", place);
      noteRead(cell, ownMark(), knownTo(me()));
    }
  });
}

void markSharedUnderWay(size_t offset, size_t bytes, bool isUnderWay) {
  if (isWatching) forCells(offset, bytes, [=](Cell& cell) { cell.writer = isUnderWay ? Writer::copyOfThread : Writer::thread; });
}

void copyWillWrite(size_t offset, size_t bytes, Mark when, const void* place) {
  if (!isWatching) return;
  forCells(offset, bytes, [&](Cell& cell) {
    checkFree(cell, "begins a tile copy to", place);
    if (cell.writer == Writer::thread && cell.write.at > publishedTo(me())[cell.write.by]) {
      fault("begins a tile copy to what " + nameOf(cell.write.by) + " has written: publishWrites is missing", place);
    }
    cell.write = when;
    cell.writer = Writer::copyEngine;
    cell.reads.clear();
  });
}

void storeReads(size_t offset, size_t bytes, Mark when, const void* place) {
  if (!isWatching) return;
  forCells(offset, bytes, [&](Cell& cell) { readBeside(cell, when, knownTo(me()), publishedTo(me()), "a tile store reads", place); });
}

void beginOfProducts() {
  if (!isWatching) return;
  const int first = me() / WARPGROUP * WARPGROUP;
  Knowledge& all = ofGroups[me() / WARPGROUP];
  all = {{knownTo(first), knownTo(first) + agents}, {publishedTo(first), publishedTo(first) + agents}};
  for (int i = first + 1; i < first + WARPGROUP; i++) {
    meetKnowledge(all.known.data(), knownTo(i));
    meetKnowledge(all.published.data(), publishedTo(i));
  }
}

void productReads(size_t offset, size_t bytes, Mark when, const void* place) {
  if (!isWatching) return;
  const Knowledge& all = ofGroups[me() / WARPGROUP];
  forCells(offset, bytes, [&](Cell& cell) { readBeside(cell, when, all.known.data(), all.published.data(), "a product reads", place); });
}

void publishWrites() {
  if (!isWatching) return;
  std::copy(knownTo(me()), knownTo(me()) + agents, publishedTo(me()));
  tick(me());
}

}  // namespace emulator
