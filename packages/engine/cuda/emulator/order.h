/**
 * Who knows of what, in kernels whose threads meet at barriers in shared memory: vector clocks, as FastTrack has them (Flanagan and Freund,
 * PLDI 2009). Threads have clocks, and so has what works beside them: each barrier's copies, each warpgroup's products, each thread's
 * stores. An access is in order when whoever makes it knows of what was done to the same bytes before.
 *
 * What threads write themselves the copy engine and products see after `publishWrites` only. So of each thread is kept, besides what it
 * knows, how much of that was published on the way.
 */
#pragma once

#include "machine.h"

namespace emulator {

using Clock = uint16_t;
/** What somebody knew of all at a moment. */
struct Knowledge {
  std::vector<Clock> known, published;
};

/** Something that was done: by whom, and when by its own clock. */
struct Mark {
  uint16_t by = 0;
  Clock at = 0;
};

constexpr int MOST_BARRIERS = 64, WARPGROUPS = MOST_THREADS / WARPGROUP, MOST_STORING = 16;

// What works beside the threads, after these in number.
int ofWarpgroup(int warpgroup);
int ofBarrier(int barrier);
/** Of the running thread's stores. */
int ofStores();

/** All is unwritten, and nobody knows of anybody. */
void beginOrder(int threads);

/** The running thread's own moment. */
Mark ownMark();
bool knows(Mark mark);
/** From now on the running thread knows what `who` has done until then. */
void learn(int who, Clock until);
/** What the running thread knows becomes known to whoever acquires it; what it does from here on does not. */
void release(Knowledge& to);
void acquire(const Knowledge& from);
/** All threads that have not ended, or the lanes of the running warp, know what each of them knows. */
void joinThreads();
void joinLanes();

/** Bytes of shared memory that threads touch, by their offset. */
void touchShared(size_t offset, size_t bytes, bool isWrite, const void* place);
/** While they are under way, touching these bytes is a mistake. */
void markSharedUnderWay(size_t offset, size_t bytes, bool isUnderWay);
/** The copy engine will write these bytes, at `when`. */
void copyWillWrite(size_t offset, size_t bytes, Mark when, const void* place);
/** A store of the running thread reads them, until `when`. */
void storeReads(size_t offset, size_t bytes, Mark when, const void* place);
/** A product of the running warpgroup reads them, until `when`: all its threads must know what is there, by `beginOfProducts`. */
void productReads(size_t offset, size_t bytes, Mark when, const void* place);
/** Finds what all threads of the running warpgroup know now. */
void beginOfProducts();

}  // namespace emulator
