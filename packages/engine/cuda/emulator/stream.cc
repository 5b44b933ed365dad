/** Streams and events of the driver's interface. An event is the place in its stream where it was recorded. */

#include <chrono>
#include <memory>
#include <set>
#include <thread>

#include "api.h"

using namespace emulator;

namespace {

struct Mark {
  bool isReached = false;
  double milliseconds = 0;
  /** To the stream, when it came so far. */
  Progress known;
};
struct Event {
  bool isTimed;
  std::shared_ptr<Mark> moment = std::make_shared<Mark>();
  Stream* stream = nullptr;
};

/** Those that were created, and events that were not destroyed. */
std::set<Stream*> streams;
std::set<Event*> events;

Result unknown(Event* event) {
  NEEDS();
  return check(events.count(event) > 0, INVALID_HANDLE, "there is no such event");
}

int doWork(const Stream& stream, const Work& work, const Progress& known) {
  beginWork(stream.number, known);
  const int result = work();
  endWork();
  return result;
}

void advance(Stream& stream) {
  while (!stream.waiting.empty()) {
    const auto& [work, known] = stream.waiting.front();
    const int result = doWork(stream, work, known);
    if (result == NOT_READY) return;
    if (result != SUCCESS && stream.failure == SUCCESS) stream.failure = result;
    stream.waiting.pop_front();
  }
}

}  // namespace

Result emulator::unready(void* stream) {
  NEEDS();
  return check(streams.count(static_cast<Stream*>(stream)) > 0, INVALID_HANDLE, "there is no such stream");
}

Stream& emulator::streamOf(void* handle) { return *static_cast<Stream*>(handle); }

int emulator::inOrder(void* handle, Work work) {
  Stream& stream = streamOf(handle);
  if (stream.waiting.empty()) {
    const int result = doWork(stream, work, knownToHost);
    if (result != NOT_READY) return result;
  }
  later(handle, std::move(work));
  return SUCCESS;
}

void emulator::later(void* handle, Work work) { streamOf(handle).waiting.push_back({std::move(work), knownToHost}); }

void emulator::advanceStreams() {
  // Work may wait for what another stream has just done; then its turn comes with the next question.
  for (Stream* stream : streams) advance(*stream);
}

int emulator::finish(Stream& stream) {
  while (!stream.waiting.empty()) {
    advanceStreams();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  join(knownToHost, knowledgeOf(stream.number));
  return stream.failure;
}

Result emulator::touch(uint64_t address, size_t bytes, Touching touching) {
  const std::string wrong = lookAtCopy(address, bytes, touching);
  return check(wrong.empty(), INVALID_VALUE, wrong);
}

API cuStreamCreate(Stream** stream, unsigned flags) {
  NEEDS();
  constexpr unsigned NON_BLOCKING = 1;
  if (flags != NON_BLOCKING) return check(false, INVALID_VALUE, "streams are such that do not wait for nobody's");
  streams.insert(*stream = new Stream());
  (*stream)->number = static_cast<int>(streams.size());
  return SUCCESS;
}
API cuStreamSynchronize(void* stream) {
  NEEDS(stream);
  return finish(streamOf(stream));
}
API cuStreamWaitEvent(void* stream, Event* event, unsigned flags) {
  NEEDS(stream);
  if (const Result why = unknown(event); why != SUCCESS) return why;
  if (flags != 0) return check(false, INVALID_VALUE, "a wait without flags is meant");
  return inOrder(stream, [moment = event->moment, number = streamOf(stream).number] {
    if (!moment->isReached) return NOT_READY;
    learn(number, moment->known);
    return SUCCESS;
  });
}

API cuEventCreate(Event** event, unsigned flags) {
  NEEDS();
  constexpr unsigned UNTIMED = 2;
  if ((flags & ~UNTIMED) != 0) return check(false, INVALID_VALUE, "an event with other flags than kernels of the house need");
  events.insert(*event = new Event{(flags & UNTIMED) == 0});
  return SUCCESS;
}
API cuEventDestroy_v2(Event* event) {
  if (const Result why = unknown(event); why != SUCCESS) return why;
  events.erase(event);
  delete event;
  return SUCCESS;
}
API cuEventRecord(Event* event, void* stream) {
  NEEDS(stream);
  if (const Result why = unknown(event); why != SUCCESS) return why;
  event->moment = std::make_shared<Mark>();
  event->stream = &streamOf(stream);
  return inOrder(stream, [moment = event->moment, number = event->stream->number] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    *moment = {true, std::chrono::duration<double, std::milli>(now).count(), knowledgeOf(number)};
    return SUCCESS;
  });
}
API cuEventQuery(Event* event) {
  if (const Result why = unknown(event); why != SUCCESS) return why;
  // One that was never recorded is reached.
  if (!event->stream) return SUCCESS;
  if (!event->moment->isReached) advanceStreams();
  if (event->stream->failure != SUCCESS) return event->stream->failure;
  if (!event->moment->isReached) return NOT_READY;
  join(knownToHost, event->moment->known);
  return SUCCESS;
}
API cuEventSynchronize(Event* event) {
  for (;;) {
    const int result = cuEventQuery(event);
    if (result != NOT_READY) return result;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}
API cuEventElapsedTime(float* milliseconds, Event* begin, Event* end) {
  for (Event* event : {begin, end}) {
    if (const Result why = unknown(event); why != SUCCESS) return why;
    if (!event->isTimed || !event->stream) return check(false, INVALID_HANDLE, "an event that notes no time, or was not recorded");
  }
  if (!begin->moment->isReached || !end->moment->isReached) return check(false, NOT_READY, "an event that was not waited for");
  *milliseconds = static_cast<float>(end->moment->milliseconds - begin->moment->milliseconds);
  return SUCCESS;
}
