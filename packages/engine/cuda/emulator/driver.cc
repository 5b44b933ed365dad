/**
 * The CUDA driver's interface over the emulator: the functions that `src/cuda/driver.ts` calls, by the same names and with the same
 * arguments. The image of a module is the path of a shared object, compiled from a kernel's source. Launches run on the calling thread,
 * and at once unless their stream has to wait (`stream.cc`), so what went wrong is known at once.
 */

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>

#include <dlfcn.h>
#include <unistd.h>

#include "api.h"

using namespace emulator;

namespace {

struct Module {
  std::map<std::string, Kernel> kernels;
};

/** By path: a library that is opened again does not register its kernels again. */
std::map<std::string, std::unique_ptr<Module>> modules;
Module* loading = nullptr;
/** Of memory of the host that kernels reach, by address. */
std::map<uint64_t, size_t> hostBytes;

constexpr uint32_t MOST_BLOCKS_X = 0x7fffffff, MOST_BLOCKS_YZ = 65535;
/** What a block may have on sm_86, sm_89 and sm_120, on which all kernels run but a Hopper's own. */
constexpr size_t LEAST_SHARED_BYTES = 99 << 10;

bool isInitialized = false;
thread_local const void* context = nullptr;

/**
 * What is to go wrong with a kernel, as it may on a card, by SLUICE_EMULATED_FAULT="traps adamW", say: all that is asked for afterwards
 * fails. One that `hangs` never ends; one that `skips` does nothing.
 */
struct Planted {
  std::string kind, kernel;
  /** What it has left. */
  Result failure = SUCCESS;

  Planted() {
    const char* wanted = std::getenv("SLUICE_EMULATED_FAULT");
    if (wanted) std::istringstream(wanted) >> kind >> kernel;
  }
  bool isUnderstood() const { return kind.empty() || ((kind == "traps" || kind == "hangs" || kind == "skips") && !kernel.empty()); }
} planted;

}  // namespace

Result emulator::unready() {
  if (planted.failure != SUCCESS) return planted.failure;
  if (!isInitialized) return check(false, NOT_INITIALIZED, "cuInit comes first");
  return check(context != nullptr, INVALID_CONTEXT, "the thread has no context: cuCtxSetCurrent comes first");
}

bool emulator::registerKernel(const char* name, Entry entry, int mostThreads, int blocks, const Parameter* parameters, size_t count,
                              bool isHopper) {
  if (loading) loading->kernels[name] = {name, entry, mostThreads, blocks, isHopper, {parameters, parameters + count}};
  return loading != nullptr;
}

API cuInit(unsigned flags) {
  isInitialized = true;
  if (!planted.isUnderstood()) return check(false, INVALID_VALUE, "SLUICE_EMULATED_FAULT has traps, hangs or skips, and a kernel");
  return check(flags == 0, INVALID_VALUE, "cuInit takes 0");
}
API cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
API cuDeviceGetCount(int* count) { return *count = 1, check(isInitialized, NOT_INITIALIZED, "cuInit comes first"); }
API cuDeviceGet(int* device, int number) {
  *device = number;
  return check(number == 0, INVALID_VALUE, "there is one emulated device, number 0");
}
API cuDeviceGetName(char* name, int length, int) {
  std::snprintf(name, static_cast<size_t>(length), "emulated");
  return SUCCESS;
}
API cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = settings.memoryBytes, SUCCESS; }
/** Each process counts as a GPU of its own. */
API cuDeviceGetUuid(char* uuid, int) {
  std::memset(uuid, 0, 16);
  const pid_t process = getpid();
  std::memcpy(uuid, &process, sizeof process);
  return SUCCESS;
}
/** Of a part of a GPU it would be another. */
API cuDeviceGetUuid_v2(char* uuid, int device) { return cuDeviceGetUuid(uuid, device); }
API cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int MULTIPROCESSORS = 16, MAJOR = 75, MINOR = 76, SHARED_BYTES = 97, READS_HOST_PAGES = 100, CAN_MAP_MEMORY = 102;
  switch (attribute) {
    case MULTIPROCESSORS:
      return *value = 1, SUCCESS;
    case MAJOR:
      return *value = settings.arithmetic == Arithmetic::ampere ? 8 : 9, SUCCESS;
    case MINOR:
      return *value = 0, SUCCESS;
    case SHARED_BYTES:
      return *value = static_cast<int>(MOST_SHARED_BYTES), SUCCESS;
    case READS_HOST_PAGES:
      return *value = settings.readsHostPages, SUCCESS;
    case CAN_MAP_MEMORY:
      return *value = settings.canMapMemory, SUCCESS;
  }
  return check(false, INVALID_VALUE, "the emulated device has no attribute " + std::to_string(attribute));
}
API cuDevicePrimaryCtxRetain(void** context, int) { return *context = &settings, SUCCESS; }
API cuCtxSetCurrent(void* wanted) {
  context = wanted;
  return check(!wanted || wanted == &settings, INVALID_CONTEXT, "there is no such context");
}
API cuModuleLoadData(Module** module, const char* path) {
  NEEDS();
  std::unique_ptr<Module>& known = modules[path];
  if (!known) {
    known = std::make_unique<Module>();
    loading = known.get();
    const bool isOpen = dlopen(path, RTLD_NOW | RTLD_LOCAL) != nullptr;
    loading = nullptr;
    if (!isOpen) {
      const std::string reason = dlerror();
      modules.erase(path);
      return check(false, INVALID_IMAGE, reason);
    }
  }
  return *module = known.get(), SUCCESS;
}
API cuModuleGetFunction(Kernel** function, Module* module, const char* name) {
  NEEDS();
  const auto found = module->kernels.find(name);
  if (found == module->kernels.end()) return check(false, NOT_FOUND, std::string("there is no kernel ") + name);
  return *function = &found->second, SUCCESS;
}
API cuFuncSetAttribute(Kernel* kernel, int attribute, int value) {
  NEEDS();
  constexpr int MOST_DYNAMIC_SHARED_BYTES = 8;
  const size_t most = kernel->isHopper ? MOST_SHARED_BYTES : LEAST_SHARED_BYTES;
  if (attribute == MOST_DYNAMIC_SHARED_BYTES && value >= 0 && static_cast<size_t>(value) <= most) {
    kernel->mostSharedBytes = static_cast<size_t>(value);
    return SUCCESS;
  }
  return check(false, INVALID_VALUE, kernel->name + ": attribute " + std::to_string(attribute) + " cannot be " + std::to_string(value));
}

API cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  NEEDS();
  if (bytes == 0) return check(false, INVALID_VALUE, "0 bytes cannot be allocated");
  if (usedBytes() + bytes > settings.memoryBytes) return check(false, OUT_OF_MEMORY, "the emulated device has no more memory");
  *address = allocate(bytes);
  return check(*address != 0, OUT_OF_MEMORY, "the host has no memory for it");
}
API cuMemFree_v2(uint64_t address) {
  NEEDS();
  return check(release(address), INVALID_VALUE, "no allocation begins there");
}
/** Of the host's, where kernels reach it; it takes nothing of the device's. */
API cuMemHostAlloc(uint64_t* address, size_t bytes, unsigned) {
  NEEDS();
  if (bytes == 0) return check(false, INVALID_VALUE, "0 bytes cannot be allocated");
  *address = allocate(bytes);
  if (*address == 0) return check(false, OUT_OF_MEMORY, "the host has no memory for it");
  changeUsedBytes(-static_cast<int64_t>(bytes));
  hostBytes[*address] = bytes;
  return SUCCESS;
}
API cuMemFreeHost(uint64_t address) {
  NEEDS();
  const auto found = hostBytes.find(address);
  if (found == hostBytes.end()) return check(false, INVALID_VALUE, "no memory of the host begins there");
  changeUsedBytes(static_cast<int64_t>(found->second));
  hostBytes.erase(found);
  release(address);
  return SUCCESS;
}

/** From memory that is not pinned: the driver keeps a copy of it, and the caller may change it, but where the device reads it by itself. */
API cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, void* stream) {
  NEEDS(stream);
  const auto copy = [=](const void* source) -> int {
    const Result result = touch(to, bytes, Touching::writes);
    if (result == SUCCESS) std::memcpy(reinterpret_cast<void*>(to), source, bytes);
    return result;
  };
  if (settings.readsHostPages) return later(stream, [=] { return copy(from); }), SUCCESS;
  if (streamOf(stream).waiting.empty()) return inOrder(stream, [&] { return copy(from); });
  const auto* begin = static_cast<const unsigned char*>(from);
  return inOrder(stream, [copy, kept = std::vector<unsigned char>(begin, begin + bytes)] { return copy(kept.data()); });
}
/** To memory that is not pinned: it is there when the call returns. */
API cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
  NEEDS(stream);
  const int before = finish(streamOf(stream));
  if (before != SUCCESS) return before;
  return inOrder(stream, [=]() -> int {
    const Result result = touch(from, bytes, Touching::reads);
    if (result == SUCCESS) std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
    return result;
  });
}
API cuMemcpyAsync(uint64_t to, uint64_t from, size_t bytes, void* stream) {
  NEEDS(stream);
  return inOrder(stream, [=]() -> int {
    if (touch(from, bytes, Touching::reads) != SUCCESS || touch(to, bytes, Touching::writes) != SUCCESS) return INVALID_VALUE;
    std::memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
    return SUCCESS;
  });
}
/** `value` `count` times from `to` on. */
template <typename T>
static int fill(uint64_t to, T value, size_t count, void* stream) {
  NEEDS(stream);
  if (to % sizeof(T) != 0) return check(false, INVALID_VALUE, "what is filled begins at no multiple of " + std::to_string(sizeof(T)) + " bytes");
  return inOrder(stream, [=]() -> int {
    const Result result = touch(to, sizeof(T) * count, Touching::writes);
    if (result == SUCCESS) std::fill_n(reinterpret_cast<T*>(to), count, value);
    return result;
  });
}
API cuMemsetD16Async(uint64_t to, uint16_t value, size_t count, void* stream) { return fill(to, value, count, stream); }
API cuMemsetD32Async(uint64_t to, uint32_t value, size_t count, void* stream) { return fill(to, value, count, stream); }

API cuFuncGetParamInfo(Kernel* kernel, size_t index, size_t* place, size_t* bytes) {
  if (index >= kernel->parameters.size()) return INVALID_VALUE;
  return *place = kernel->parameters[index].place, *bytes = kernel->parameters[index].bytes, SUCCESS;
}

API cuLaunchKernel(Kernel* kernel, uint32_t x, uint32_t y, uint32_t z, uint32_t threads, uint32_t threadsY, uint32_t threadsZ,
                   uint32_t sharedBytes, void* stream, void** parameters, void** extra) {
  NEEDS(stream);
  const auto wrong = [&](const std::string& what) { return check(false, INVALID_VALUE, kernel->name + ": " + what); };
  if (x == 0 || y == 0 || z == 0 || x > MOST_BLOCKS_X || y > MOST_BLOCKS_YZ || z > MOST_BLOCKS_YZ) return wrong("no grid has such a size");
  if (threadsY != 1 || threadsZ != 1 || threads == 0 || threads % LANES != 0) {
    return wrong("blocks have one dimension here, and whole warps");
  }
  if (threads > static_cast<uint32_t>(kernel->mostThreads)) {
    return wrong(std::to_string(threads) + " threads, but KERNEL says at most " + std::to_string(kernel->mostThreads));
  }
  if (sharedBytes > kernel->mostSharedBytes) return wrong("more shared memory than cuFuncSetAttribute allowed");
  if (!parameters || extra) return wrong("arguments come by a pointer to each, since only the driver knows where they lie");
  if (kernel->name == planted.kernel) {
    if (planted.kind == "hangs") later(stream, [] { return NOT_READY; });
    if (planted.kind != "traps") return SUCCESS;
    planted.failure = ILLEGAL_ADDRESS;
    const char* isBlocking = std::getenv("CUDA_LAUNCH_BLOCKING");
    return isBlocking && *isBlocking == '1' ? planted.failure : SUCCESS;
  }
  if (!settings.runsKernels) return SUCCESS;
  const Launch launch = {kernel, {x, y, z}, static_cast<int>(threads), sharedBytes};
  // The caller may change them at once.
  std::vector<unsigned char> arguments(kernel->parameters.back().place + kernel->parameters.back().bytes);
  for (size_t i = 0; i < kernel->parameters.size(); i++) {
    const auto [place, bytes] = kernel->parameters[i];
    std::memcpy(arguments.data() + place, parameters[i], bytes);
  }
  return inOrder(stream, [=]() -> int {
    std::memcpy(builtins.arguments, arguments.data(), arguments.size());
    return run(launch) ? SUCCESS : LAUNCH_FAILED;
  });
}

API cuGetErrorName(int code, const char** name) {
  static const std::map<int, const char*> names = {
      {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE"},     {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY"},
      {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED"}, {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE"},
      {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT"}, {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE"},
      {NOT_FOUND, "CUDA_ERROR_NOT_FOUND"},             {NOT_READY, "CUDA_ERROR_NOT_READY"},
      {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS"}, {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED"},
  };
  const auto found = names.find(code);
  if (found == names.end()) return INVALID_VALUE;
  return *name = found->second, SUCCESS;
}
/** Of a GPU's driver it is a text for each code; here it says what was wrong just now. */
API cuGetErrorString(int code, const char** text) {
  return *text = code == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : faultText().c_str(), SUCCESS;
}

// What only the emulator has.

/**
 * @param order 0 forward, 1 backward, 2 shuffled by `seed` @param arithmetic 0 exact, 1 Ampere and Ada, 2 Hopper
 * @param memoryBytes of the device @param canMapMemory whether `cuMemMap` and its like are said to be there
 * @param runsKernels whether launches do anything @param readsHostPages whether it reads the host's memory when its turn comes
 */
extern "C" EMULATOR void emulatorSettings(int order, uint32_t seed, int arithmetic, size_t memoryBytes, bool canMapMemory,
                                          bool runsKernels, bool readsHostPages) {
  settings = {static_cast<Order>(order), seed,        static_cast<Arithmetic>(arithmetic), memoryBytes,
              canMapMemory,              runsKernels, readsHostPages};
}
/** Whether memory that is allocated from now on is watched: kernels must be compiled for it. */
extern "C" EMULATOR void emulatorWatch(bool isOn) { isWatching = isOn; }
/** Fills in, since the last call: switches of threads, matrix products, matrix loads, bank conflicts of these. */
extern "C" EMULATOR void emulatorStatistics(double* counts) {
  const double all[] = {static_cast<double>(statistics.switches), static_cast<double>(statistics.products),
                        static_cast<double>(statistics.matrixLoads), static_cast<double>(statistics.bankConflicts)};
  std::copy(all, all + 4, counts);
  statistics = {};
}
