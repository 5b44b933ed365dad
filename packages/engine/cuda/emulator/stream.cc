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
};
struct Event {
  std::shared_ptr<Mark> moment = std::make_shared<Mark>();
  Stream* stream = nullptr;
};

/** Those that were created; whoever names none means the first. */
std::set<Stream*> streams;
Stream usual;

void advance(Stream& stream) {
  while (!stream.waiting.empty()) {
    const int result = stream.waiting.front()();
    if (result == NOT_READY) return;
    if (result != SUCCESS && stream.failure == SUCCESS) stream.failure = result;
    stream.waiting.pop_front();
  }
}

}  // namespace

Stream& emulator::streamOf(void* handle) { return handle ? *static_cast<Stream*>(handle) : usual; }

int emulator::inOrder(void* handle, Work work) {
  Stream& stream = streamOf(handle);
  if (!stream.waiting.empty()) return stream.waiting.push_back(std::move(work)), SUCCESS;
  const int result = work();
  if (result != NOT_READY) return result;
  stream.waiting.push_back(std::move(work));
  return SUCCESS;
}

void emulator::later(void* handle, Work work) { streamOf(handle).waiting.push_back(std::move(work)); }

void emulator::advanceStreams() {
  advance(usual);
  // Work may wait for what another stream has just done; then its turn comes with the next question.
  for (Stream* stream : streams) advance(*stream);
}

API cuStreamCreate(Stream** stream, unsigned) {
  streams.insert(*stream = new Stream());
  return SUCCESS;
}
API cuStreamSynchronize(Stream* stream) {
  while (!streamOf(stream).waiting.empty()) {
    advanceStreams();
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return streamOf(stream).failure;
}
API cuStreamWaitEvent(void* stream, Event* event, unsigned) {
  return inOrder(stream, [moment = event->moment] { return moment->isReached ? SUCCESS : NOT_READY; });
}

API cuEventCreate(Event** event, unsigned) { return *event = new Event(), SUCCESS; }
API cuEventDestroy_v2(Event* event) { return delete event, SUCCESS; }
API cuEventRecord(Event* event, void* stream) {
  event->moment = std::make_shared<Mark>();
  event->stream = &streamOf(stream);
  return inOrder(stream, [moment = event->moment] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    *moment = {true, std::chrono::duration<double, std::milli>(now).count()};
    return SUCCESS;
  });
}
API cuEventQuery(Event* event) {
  if (!event->moment->isReached) advanceStreams();
  if (event->stream && event->stream->failure != SUCCESS) return event->stream->failure;
  return event->moment->isReached ? SUCCESS : NOT_READY;
}
API cuEventElapsedTime(float* milliseconds, const Event* begin, const Event* end) {
  *milliseconds = static_cast<float>(end->moment->milliseconds - begin->moment->milliseconds);
  return SUCCESS;
}
