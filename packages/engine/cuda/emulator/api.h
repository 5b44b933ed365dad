/** What the files of the driver's interface have in common: results of calls, and how one refuses. */
#pragma once

#include "machine.h"

namespace emulator {

/** Of `CUresult`. */
enum Result : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_IMAGE = 200,
  NOT_FOUND = 500,
  LAUNCH_FAILED = 719,
};

inline Result check(bool isRight, Result otherwise, const std::string& what) {
  if (isRight) return SUCCESS;
  refuse(what);
  return otherwise;
}

}  // namespace emulator

#define API extern "C" EMULATOR int
