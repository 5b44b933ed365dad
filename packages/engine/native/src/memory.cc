// Memory for tensors.

#include <cstring>

#include "addon.h"
#include "aligned_memory.h"
#include "scratch.h"

namespace sluice {

static void release(napi_env, void* memory, void*) { std::free(memory); }

/// allocate(bytes, holder): holder.buffer becomes an ArrayBuffer of arbitrary content, aligned for vectors, until it is
/// collected. 1 when it worked.
static double allocate(const Arguments& args) {
  const size_t bytes = args.size(0);
  void* memory = allocateAligned(bytes);
  if (memory == nullptr) return 0;
  napi_value buffer;
  if (napi_create_external_arraybuffer(args.env(), memory, bytes, release, nullptr, &buffer) != napi_ok) {
    std::free(memory);
    return 0;
  }
  args.setProperty(1, "buffer", buffer);
  return 1;
}

/// beyondCacheLine(array, length): bytes between the beginning of a cache line and the beginning of a Float32Array.
static double beyondCacheLine(const Arguments& args) {
  return static_cast<double>(reinterpret_cast<uintptr_t>(args.floats(0, args.size(1))) % kCacheLine);
}

/// scratchBytes(): what kernels keep to work in, of all threads of the process.
static double countScratch(const Arguments&) { return static_cast<double>(scratchBytes().load()); }

/// copyBytes(target, source, length): Uint8Arrays, which may overlap.
static double copyBytes(const Arguments& args) {
  const size_t length = args.size(2);
  std::memmove(args.bytes(0, length), args.bytes(1, length), length);
  return 0;
}

SLUICE_EXPORT(allocate, allocate);
SLUICE_EXPORT(beyondCacheLine, beyondCacheLine);
SLUICE_EXPORT(copyBytes, copyBytes);
SLUICE_EXPORT(scratchBytes, countScratch);

}  // namespace sluice
