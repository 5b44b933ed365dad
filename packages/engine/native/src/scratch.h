// Memory that a kernel needs while it runs. It grows to the largest request and stays with its thread.

#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace sluice {

/// Declare one `static thread_local Scratch` for each purpose; its content does not outlive the next request.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  /// At least `count` floats of arbitrary content, aligned to a cache line (large ones to a huge page).
  float* floats(size_t count) {
    if (count > count_) grow(count);
    return data_;
  }

 private:
  static constexpr size_t kHugePage = size_t{1} << 21;

  void grow(size_t count) {
    std::free(data_);
    data_ = nullptr;
    count_ = 0;
    size_t bytes = count * sizeof(float);
    const size_t alignment = bytes >= kHugePage ? kHugePage : 4096;
    bytes = (bytes + alignment - 1) / alignment * alignment;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, bytes) != 0) throw std::bad_alloc();
#ifdef __linux__
    if (alignment == kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    data_ = static_cast<float*>(memory);
    count_ = bytes / sizeof(float);
  }

  float* data_ = nullptr;
  size_t count_ = 0;
};

}  // namespace sluice
