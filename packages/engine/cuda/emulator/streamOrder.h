/**
 * Which work of other streams the work of a stream comes after. Work is known by numbers, of which each block of a launch has one, each copy
 * and each transfer; by them memory notes who touched it last. A stream knows its own work, what it has waited for by events, and what the
 * host knew to be done when it asked for the work. What it does not know, it must leave alone, whatever has been done already this time.
 */
#pragma once

#include <cstdint>
#include <vector>

namespace emulator {

/** By stream, the last number of its work that is known. */
using Progress = std::vector<uint32_t>;

void join(Progress& to, const Progress& from);

/** Of the host. */
extern Progress knownToHost;

/** What is done from here to `endWork` is work of a stream; see `Item::knownToHost`. */
void beginWork(int stream, const Progress& knownToHost);
void endWork();
/** The stream waits for what others know. */
void learn(int stream, const Progress& known);
/** What a stream knows, all that it has done among it. */
Progress knowledgeOf(int stream);

/** No number below it is unknown to the work that is being done. */
extern uint32_t firstUnknown;
bool isUnknownWork(uint32_t number);
/** Whether the work that is being done does not come after that of this number. */
inline bool isUnknown(uint32_t number) { return number >= firstUnknown && isUnknownWork(number); }

}  // namespace emulator
