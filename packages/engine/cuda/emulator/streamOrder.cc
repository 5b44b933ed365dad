#include "streamOrder.h"

#include <algorithm>

#include "machine.h"

namespace emulator {

namespace {

/** Numbers from `first` on, up to the next span's, are of work of one stream. */
struct Span {
  uint32_t first;
  int stream;
};
std::vector<Span> spans;
/** By stream. */
std::vector<Progress> known;
Progress lastOf;
int current = 0;
uint32_t lastBefore = 0;

void raise(Progress& to, int stream, uint32_t number) {
  if (to.size() <= static_cast<size_t>(stream)) to.resize(static_cast<size_t>(stream) + 1);
  to[static_cast<size_t>(stream)] = std::max(to[static_cast<size_t>(stream)], number);
}

Progress& knownTo(int stream) {
  if (known.size() <= static_cast<size_t>(stream)) known.resize(static_cast<size_t>(stream) + 1);
  return known[static_cast<size_t>(stream)];
}

uint32_t lastKnown(const Progress& of, size_t stream) { return stream < of.size() ? of[stream] : 0; }

}  // namespace

Progress knownToHost;
uint32_t firstUnknown = UINT32_MAX;

void join(Progress& to, const Progress& from) {
  for (size_t stream = 0; stream < from.size(); stream++) raise(to, static_cast<int>(stream), from[stream]);
}

void beginWork(int stream, const Progress& knownToHostThen) {
  current = stream;
  lastBefore = lastNumber();
  if (spans.empty() || spans.back().stream != stream) spans.push_back({lastBefore + 1, stream});
  join(knownTo(stream), knownToHostThen);
  firstUnknown = UINT32_MAX;
  for (size_t other = 0; other < lastOf.size(); other++) {
    const uint32_t last = lastKnown(knownTo(stream), other);
    if (static_cast<int>(other) != stream && lastOf[other] > last) firstUnknown = std::min(firstUnknown, last + 1);
  }
}

void endWork() {
  if (lastNumber() > lastBefore) raise(lastOf, current, lastNumber());
  firstUnknown = UINT32_MAX;
}

void learn(int stream, const Progress& more) { join(knownTo(stream), more); }

Progress knowledgeOf(int stream) {
  Progress all = knownTo(stream);
  raise(all, stream, lastKnown(lastOf, static_cast<size_t>(stream)));
  return all;
}

bool isUnknownWork(uint32_t number) {
  const auto next = std::upper_bound(spans.begin(), spans.end(), number,
                                     [](uint32_t each, const Span& span) { return each < span.first; });
  if (next == spans.begin()) return false;
  const int stream = std::prev(next)->stream;
  return stream != current && number > lastKnown(knownTo(current), static_cast<size_t>(stream));
}

}  // namespace emulator
