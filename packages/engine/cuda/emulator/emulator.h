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

#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

// As for a GPU: an operation of a warp in what two branches call is at two places of the code.
#define DEVICE inline __attribute__((always_inline))
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
/** Of a kernel: where its argument lies in `builtins.arguments`, and how much it has. */
struct Parameter {
  size_t place, bytes;
};
EMULATOR bool registerKernel(const char* name, Entry entry, int mostThreads, int blocks, const Parameter* parameters, size_t count,
                             bool isHopper);

/** Reads arguments, each of which lies at a multiple of its own alignment. */
template <auto kernel>
struct Arguments;
template <typename... A, void (*kernel)(A...)>
struct Arguments<kernel> {
  static constexpr size_t COUNT = sizeof...(A);
  static constexpr std::array<Parameter, COUNT> placed() {
    std::array<Parameter, COUNT> all = {Parameter{alignof(A), sizeof(A)}...};
    size_t end = 0;
    for (Parameter& parameter : all) {
      const size_t alignment = parameter.place;
      parameter.place = (end + alignment - 1) / alignment * alignment;
      end = parameter.place + parameter.bytes;
    }
    return all;
  }
  static constexpr std::array<Parameter, COUNT> parameters = placed();
  static_assert(parameters[COUNT - 1].place + parameters[COUNT - 1].bytes <= MOST_ARGUMENT_BYTES);

  template <typename T>
  static const T& at(size_t place) {
    const unsigned char* p = builtins.arguments + place;
    // Or compilers take neighbours at once, at places that are no multiples of so much.
    asm("" : "+r"(p));
    return *reinterpret_cast<const T*>(p);
  }
  template <size_t... i>
  static void callWith(std::index_sequence<i...>) {
    kernel(at<A>(parameters[i].place)...);
  }
  static void call() { callWith(std::index_sequence_for<A...>()); }
};

template <auto kernel>
bool registerKernel(const char* name, int mostThreads, int blocks, bool isHopper) {
  using Own = Arguments<kernel>;
  return registerKernel(name, &Own::call, mostThreads, blocks, Own::parameters.data(), Own::COUNT, isHopper);
}

template <typename T>
DEVICE T exchangeValue(uint32 mask, T value, int source) {
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

#define KERNEL(name, threads, blocks, ...)                                                                   \
  static void name(__VA_ARGS__);                                                                             \
  static const bool name##IsRegistered = emulator::registerKernel<&name>(#name, threads, blocks, IS_HOPPER); \
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
