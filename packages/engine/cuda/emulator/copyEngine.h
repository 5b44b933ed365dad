/** What barriers and the copy engine know of each other. */
#pragma once

#include "order.h"

namespace emulator {

// barrier.cc

/** @param registers of each thread @param spare those that nobody has, of a warpgroup's threads */
void beginBarriers(int threads, int registers, int spare);
/** The number of an initialised barrier, of which the running thread knows. */
int barrierAt(const Barrier* barrier, const void* place);
bool isPublished(int barrier);
/** By the clock of its copies: that of the phase that has not ended. */
Clock currentPhase(int barrier);
void bytesHaveCome(int barrier, size_t bytes);
/** At a block's end: whether no warpgroup has more registers than there are. */
void checkRegisters();

// copyEngine.cc

void beginCopyEngine(int threads);
/** Copies that the barrier's phase waits for. */
int tilesUnderWay(int barrier);
/** Brings one of the tiles that are under way. @returns whether there was one */
bool bringTile();
/** Whether the running thread, or the last one of the block, leaves something under way. */
void checkCopies(bool isLast);

// warpgroup.cc

void beginWarpgroups(int threads);
/** An access of the running thread to its own variables, which may be sums of products under way. */
void lookAtRegisters(uintptr_t address, size_t bytes, bool isWrite, const void* place);
void checkProducts();

}  // namespace emulator
