/** What the files of the driver's interface have in common: results of calls, and how one refuses. */
#pragma once

#include <deque>
#include <functional>

#include "machine.h"
#include "streamOrder.h"

namespace emulator {

/** Of `CUresult`. */
enum Result : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILED = 719,
};

inline Result check(bool isRight, Result otherwise, const std::string& what) {
  if (isRight) return SUCCESS;
  refuse(what);
  return otherwise;
}

/** Why a call cannot be made at all: the driver was not begun, this thread has no context, or a kernel has left it unfit (`Planted`). */
Result unready();
/** The same, or that there is no such stream. Work of nobody's stream, 0, waits for all others, which nobody means here. */
Result unready(void* stream);

/** Something that a stream does in its turn: called again and again as long as it is `NOT_READY`. */
using Work = std::function<int()>;

/**
 * What was asked for in order. It is done at once where nothing has to wait, as what other processes send has to; what comes after
 * that is done when somebody asks how far the streams are, and no sooner, so that who does not ask finds nothing there.
 */
struct Stream {
  struct Item {
    Work work;
    /** When it was asked for. */
    Progress knownToHost;
  };
  int number = 0;
  std::deque<Item> waiting;
  /** The first thing that went wrong with what waited. */
  int failure = SUCCESS;
};
/** @param handle as the driver's interface has it */
Stream& streamOf(void* handle);
/** Does the work in its turn. @returns what it returns, or success where it has to wait */
int inOrder(void* handle, Work work);
/** The same for what never is done at once. */
void later(void* handle, Work work);
/** Does what can be done now of the work that waits. */
void advanceStreams();
/** Waits until nothing waits on a stream. @returns the first thing that went wrong there */
int finish(Stream& stream);

/** The work that is being done, which is no kernel, touches memory: bytes of one allocation that no other stream touches. */
Result touch(uint64_t address, size_t bytes, Touching touching);

}  // namespace emulator

/** First in a call that needs a context. */
#define NEEDS(...) \
  if (const emulator::Result why = emulator::unready(__VA_ARGS__); why != emulator::SUCCESS) return why

#define API extern "C" EMULATOR int
#define API_TEXT extern "C" EMULATOR const char*
