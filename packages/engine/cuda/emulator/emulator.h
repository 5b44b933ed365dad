/**
 * The names of CUDA and of `device.h` for a C++ compiler. Threads of a block are fibers of one thread of the system, which are
 * switched only where they meet: at barriers, and at operations of a whole warp.
 *
 * Files: `scheduler.cc` runs blocks, `memory.cc` watches what they touch, `tensorCore.h` adds like a tensor core; of Hopper, `barrier.cc`,
 * `copyEngine.cc` and `warpgroup.cc`, and `order.cc` watches which thread knows of what; `streamOrder.cc` does so of streams. `driver.cc`,
 * `stream.cc` and `mapping.cc` are the CUDA driver's interface, `nccl.cc` is NCCL's. Kernels are compiled with the instrumentation of
 * `-fsanitize=thread`, whose calls `memory.cc` answers.
 */
#pragma once

#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>

#define DEVICE inline
#define UNROLL
#define NO_UNROLL
#define EMULATOR __attribute__((visibility("default")))

namespace emulator {

struct Index {
  uint32 x, y, z;
};

constexpr int MOST_ARGUMENT_BYTES = 4096;

/** What a running thread sees of its launch. */
struct Builtins {
  Index thread, block, threads, blocks;
  alignas(64) unsigned char arguments[MOST_ARGUMENT_BYTES];
};
extern EMULATOR Builtins builtins;

EMULATOR void syncBlock();
EMULATOR void syncWarp(uint32 mask);
/** What the lane `source` hands over. */
EMULATOR uint64 exchange(uint32 mask, uint64 bits, int source);
EMULATOR FragmentC multiply(FragmentC c, FragmentA a, FragmentB b);
EMULATOR Matrices load(const void* row, bool transposed);
EMULATOR void beginCopy(void* to, const void* from, bool isThere);
EMULATOR void commitCopies();
EMULATOR void waitForCopies(int underWay);
EMULATOR void* sharedMemory(size_t bytes);
EMULATOR void checkAlignment(const void* p, int bytes);

/** A kernel's entry: takes its arguments from `builtins.arguments`. */
using Entry = void (*)();
EMULATOR bool registerKernel(const char* name, Entry entry, int mostThreads, int blocks, size_t argumentBytes, bool isHopper);

/** Reads arguments as the driver lays them out: each at a multiple of its own alignment. */
template <auto kernel>
struct Arguments;
template <typename... A, void (*kernel)(A...)>
struct Arguments<kernel> {
  static constexpr size_t place(size_t at, size_t alignment) { return (at + alignment - 1) / alignment * alignment; }
  static constexpr size_t bytes() {
    size_t at = 0;
    ((at = place(at, alignof(A)) + sizeof(A)), ...);
    return at;
  }
  static void call() {
    size_t at = 0;
    auto next = [&at](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      at = place(at, alignof(T));
      const T value = *reinterpret_cast<const T*>(builtins.arguments + at);
      at += sizeof(T);
      return value;
    };
    // Braces, since only in them are arguments evaluated from left to right.
    std::apply(kernel, std::tuple<A...>{next(static_cast<std::remove_const_t<A>*>(nullptr))...});
  }
};

template <typename T>
T exchangeValue(uint32 mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64) && std::is_trivially_copyable_v<T>);
  uint64 bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, source);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace emulator

// `hopper.h` says otherwise.
#define IS_HOPPER false

#define KERNEL(name, threads, blocks, ...)                                                                        \
  static void name(__VA_ARGS__);                                                                                  \
  static const bool name##IsRegistered = emulator::registerKernel(                                                \
      #name, &emulator::Arguments<&name>::call, threads, blocks, emulator::Arguments<&name>::bytes(), IS_HOPPER); \
  static void name(__VA_ARGS__)

#define threadIdx (::emulator::builtins.thread)
#define blockIdx (::emulator::builtins.block)
#define blockDim (::emulator::builtins.threads)
#define gridDim (::emulator::builtins.blocks)

DEVICE void __syncthreads() { emulator::syncBlock(); }
DEVICE void __syncwarp(uint32 mask = 0xffffffffu) { emulator::syncWarp(mask); }

template <typename T>
DEVICE T __shfl_xor_sync(uint32 mask, T value, int lanes) {
  return emulator::exchangeValue(mask, value, static_cast<int>(threadIdx.x % 32) ^ lanes);
}
template <typename T>
DEVICE T __shfl_sync(uint32 mask, T value, int lane) {
  return emulator::exchangeValue(mask, value, lane & 31);
}
template <typename T>
DEVICE T __shfl_down_sync(uint32 mask, T value, uint32 lanes) {
  const int source = static_cast<int>(threadIdx.x % 32 + lanes);
  return emulator::exchangeValue(mask, value, source < 32 ? source : static_cast<int>(threadIdx.x % 32));
}

DEVICE int __any_sync(uint32 mask, int isSo) {
  for (int distance = 16; distance > 0; distance /= 2) isSo |= __shfl_xor_sync(mask, isSo, distance);
  return isSo;
}

DEVICE float __uint_as_float(uint32 bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
DEVICE uint32 __float_as_uint(float x) {
  uint32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
DEVICE double __longlong_as_double(long long bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
DEVICE long long __double_as_longlong(double x) {
  long long bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
DEVICE float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
DEVICE float __fdiv_rn(float a, float b) { return a / b; }

DEVICE bf16 toBf16(float x) {
  const uint32 bits = __float_as_uint(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
DEVICE uint32 packBf16(float low, float high) { return toBf16(low).bits | static_cast<uint32>(toBf16(high).bits) << 16; }

template <typename T>
DEVICE T& sharedMemory() {
  return *static_cast<T*>(emulator::sharedMemory(sizeof(T)));
}
template <typename T>
DEVICE T* aligned(T* p, int bytes) {
  emulator::checkAlignment(p, bytes);
  return p;
}
DEVICE FragmentC mma(FragmentC c, FragmentA a, FragmentB b) { return emulator::multiply(c, a, b); }
DEVICE Matrices loadMatrices(const bf16* row) { return emulator::load(row, false); }
DEVICE Matrices loadMatricesTransposed(const bf16* row) { return emulator::load(row, true); }
DEVICE void beginCopy(void* to, const void* from, bool isThere) { emulator::beginCopy(to, from, isThere); }
DEVICE void commitCopies() { emulator::commitCopies(); }
template <int underWay>
DEVICE void waitForCopies() {
  emulator::waitForCopies(underWay);
}
