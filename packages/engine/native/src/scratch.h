// Memory that a kernel needs while it runs. It grows to the largest request and stays with its thread.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "aligned_memory.h"

namespace sluice {

/// Bytes of all scratch memory of the process.
inline std::atomic<size_t>& scratchBytes() {
  static std::atomic<size_t> bytes{0};
  return bytes;
}

/// Declare one `static thread_local Scratch` for each purpose; its content does not outlive the next request.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  /// At least `count` floats of arbitrary content, aligned (see `allocateAligned`).
  float* floats(size_t count) {
    if (count > count_) grow(count);
    return data_;
  }

 private:
  void grow(size_t count) {
    release();
    data_ = static_cast<float*>(allocateAligned(count * sizeof(float)));
    if (data_ == nullptr) throw std::bad_alloc();
    count_ = count;
    scratchBytes() += count * sizeof(float);
  }
  void release() {
    std::free(data_);
    scratchBytes() -= count_ * sizeof(float);
    data_ = nullptr, count_ = 0;
  }

  float* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace sluice
