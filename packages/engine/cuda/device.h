/**
 * What kernels may use. Kernels are CUDA C++ and include this file, or one that does, and nothing else: NVRTC (or nvcc) compiles them for a GPU, and
 * any other C++17 compiler for the emulator (`emulator/emulator.h`), which runs the same source on a CPU.
 *
 * The names of CUDA stand for themselves (threadIdx, __syncthreads, __shfl_xor_sync, …). What else a kernel needs has a name here:
 * bf16, so that no header of the CUDA toolkit is needed; matrix instructions; copies that run beside the arithmetic.
 *
 * Rules of the house (CONTRIBUTING.md, "How to write a CUDA kernel"):
 *  - blocks have one dimension, a multiple of 32 threads; shared memory is one struct, `sharedMemory<T>()`;
 *  - nothing is added across blocks, by atomics or otherwise; a sum's order is written down, and depends on no other row;
 *  - contraction is off (--fmad=false, -ffp-contract=off): one rounding for a·b + c is `__fmaf_rn`.
 */
#pragma once

using uint16 = unsigned short;
using uint32 = unsigned int;
using uint64 = unsigned long long;

/** The upper half of a float. */
struct bf16 {
  uint16 bits;
};

/** Sixteen bytes of a row, which are loaded and stored by one instruction. */
template <typename T>
struct alignas(16) Pack {
  static constexpr int SIZE = 16 / sizeof(T);
  T at[SIZE];
};

// Fragments of mma.m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"). A pair of bf16 is a word.

/** The lane's part of the left operand, 16 rows of 16, row-major. */
struct FragmentA {
  uint32 r[4];
};
/** The lane's part of the right operand, 16 rows of 8 columns, each column contiguous. */
struct FragmentB {
  uint32 r[2];
};
/** The lane's part of the sums, 16 rows of 8. */
struct FragmentC {
  float v[4];
};
// How an operand's values lie: along k, [rows, K], or across it, [K, rows].
constexpr int ALONG = 0, ACROSS = 1;

/** The lane's part of four matrices of 8 by 8. */
struct Matrices {
  uint32 r[4];
};

#ifdef __CUDACC__

#define DEVICE __device__ __forceinline__
/** KERNEL(name, threads of a block, blocks that a multiprocessor should hold, parameters…) { … } */
#define KERNEL(name, threads, blocks, ...) \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)
#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")

/** The block's shared memory, as large as the launch asks for; of arbitrary content at first. */
template <typename T>
DEVICE T& sharedMemory() {
  extern __shared__ __align__(1024) unsigned char sharedBytes[];
  return *reinterpret_cast<T*>(sharedBytes);
}
DEVICE uint32 sharedAddress(const void* p) { return static_cast<uint32>(__cvta_generic_to_shared(p)); }

/** c + a·b on a tensor core, by all lanes of a warp. */
DEVICE FragmentC mma(FragmentC c, FragmentA a, FragmentB b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.v[0]), "+f"(c.v[1]), "+f"(c.v[2]), "+f"(c.v[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
  return c;
}
/** Four matrices of 8 by 8 from shared memory: lane i gives the address of row i mod 8 of matrix ⌊i/8⌋, at a multiple of 16 bytes. */
DEVICE Matrices loadMatrices(const bf16* row) {
  Matrices m;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m.r[0]), "=r"(m.r[1]), "=r"(m.r[2]), "=r"(m.r[3])
               : "r"(sharedAddress(row))
               : "memory");
  return m;
}
/** The same, each matrix transposed. */
DEVICE Matrices loadMatricesTransposed(const bf16* row) {
  Matrices m;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(m.r[0]), "=r"(m.r[1]), "=r"(m.r[2]), "=r"(m.r[3])
               : "r"(sharedAddress(row))
               : "memory");
  return m;
}
/** Begins to copy 16 bytes to shared memory; zeros where not `isThere`, and then `from` is not read (but must be an address). */
DEVICE void beginCopy(void* to, const void* from, bool isThere) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(to)), "l"(from), "r"(isThere ? 16 : 0)
               : "memory");
}
/** Makes a group of the copies that this thread has begun since the last one. */
DEVICE void commitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/** Waits until at most `underWay` of the thread's groups are not there yet. Other threads see them after a barrier. */
template <int underWay>
DEVICE void waitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(underWay) : "memory");
}

/** To the nearest, of two the even one. NaN becomes the one with all bits but the sign. */
DEVICE bf16 toBf16(float x) {
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
/** Two values in one register, the first in the lower half. */
DEVICE uint32 packBf16(float low, float high) {
  uint32 pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/** The address itself; the emulator checks it. */
template <typename T>
DEVICE T* aligned(T* p, int) {
  return p;
}

#else

#include "emulator/emulator.h"

#endif

DEVICE float toFloat(float x) { return x; }
DEVICE float toFloat(bf16 x) { return __uint_as_float(static_cast<uint32>(x.bits) << 16); }

template <typename T>
DEVICE T fromFloat(float x) {
  if constexpr (sizeof(T) == 2) return toBf16(x);
  else return x;
}

/** The sum over the lanes of a warp, by halves; every lane gets it. */
template <typename T>
DEVICE T sumOfWarp(T x) {
  UNROLL
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

/** The thread's number in the whole grid of a launch in one dimension. */
DEVICE uint64 globalIndex() { return static_cast<uint64>(blockIdx.x) * blockDim.x + threadIdx.x; }

/** The pack that begins at `p`, a multiple of 16 bytes. */
template <typename T>
DEVICE Pack<T>& packAt(T* p) {
  return *reinterpret_cast<Pack<T>*>(aligned(p, 16));
}
template <typename T>
DEVICE const Pack<T>& packAt(const T* p) {
  return *reinterpret_cast<const Pack<T>*>(aligned(p, 16));
}

/** Elements `at` to `at + SIZE` of a row of `width`, zeros beyond its end. `isPacked`: the row lies at a multiple of 16 bytes and has whole packs. */
template <typename T>
DEVICE void loadPack(float (&values)[Pack<T>::SIZE], const T* row, int at, int width, bool isPacked) {
  if (isPacked) {
    const Pack<T> pack = packAt(row + at);
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) values[i] = toFloat(pack.at[i]);
  } else {
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) values[i] = at + i < width ? toFloat(row[at + i]) : 0.0f;
  }
}

/** The way back of `loadPack`; writes nothing beyond the row's end. */
template <typename T>
DEVICE void storePack(T* row, const float (&values)[Pack<T>::SIZE], int at, int width, bool isPacked) {
  if (isPacked) {
    Pack<T> pack;
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) pack.at[i] = fromFloat<T>(values[i]);
    packAt(row + at) = pack;
  } else {
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) {
      if (at + i < width) row[at + i] = fromFloat<T>(values[i]);
    }
  }
}

// Functions of our own, with the roundings of `native/src/simd.h`: the same bits on a CPU, on every GPU, and in the emulator.

/** e^x with a relative error below 2.5e-7 for x in [−87, 88]; beyond, as at the ends. NaN stays NaN. */
DEVICE float exponential(float x) {
  x = -87.0f > x ? -87.0f : x;
  x = 88.0f < x ? 88.0f : x;
  constexpr float ROUNDING = 12582912.0f + 127.0f;
  const float shifted = __fmaf_rn(x, 1.44269504088896341f, ROUNDING);
  const float n = shifted - ROUNDING;
  const float r = __fmaf_rn(n, 2.12194440e-4f, __fmaf_rn(n, -0.693359375f, x));
  float p = __fmaf_rn(r, 1.3981999507e-3f, 8.3334519073e-3f);
  p = __fmaf_rn(p, r, 4.1665795894e-2f);
  p = __fmaf_rn(p, r, 1.6666665459e-1f);
  p = __fmaf_rn(p, r, 5.0000001201e-1f);
  return (__fmaf_rn(p * r, r, r) + 1.0f) * __uint_as_float(__float_as_uint(shifted) << 23);
}

/** 2^x with a relative error below 2e-7 for x up to 127; 0 below −64, where a term no longer counts beside 1. NaN stays NaN. */
DEVICE float exponential2(float x) {
  constexpr float ROUNDING = 12582912.0f + 127.0f;
  const float shifted = x + ROUNDING;
  const float r = x - (shifted - ROUNDING);
  float p = __fmaf_rn(r, 1.326472731e-3f, 9.671512991e-3f);
  p = __fmaf_rn(p, r, 5.550733581e-2f);
  p = __fmaf_rn(p, r, 2.402224243e-1f);
  p = __fmaf_rn(p, r, 6.931470037e-1f);
  p = __fmaf_rn(p, r, 1.0f);
  return x < -64.0f ? 0.0f : p * __uint_as_float(__float_as_uint(shifted) << 23);
}

/** 1 / (1 + e^−x), with a relative error below 3e-7 for x ≥ −87. */
DEVICE float sigmoid(float x) { return __fdiv_rn(1.0f, 1.0f + exponential(-x)); }

/** tanh x, with a relative error below 4e-7: a polynomial where |x| < 0.625, beyond that by e^(−2|x|). */
DEVICE float hyperbolicTangent(float x) {
  const float square = x * x;
  float p = __fmaf_rn(square, -5.70498872745e-3f, 2.06390887954e-2f);
  p = __fmaf_rn(p, square, -5.37397155531e-2f);
  p = __fmaf_rn(p, square, 1.33314422036e-1f);
  p = __fmaf_rn(p, square, -3.33332819422e-1f);
  const float near = __fmaf_rn(p * square, x, x);
  const float size = x > -x ? x : -x, e = exponential(-2.0f * size);
  const float far = __fdiv_rn(1.0f - e, 1.0f + e);
  return size < 0.625f ? near : x < 0.0f ? -far : far;
}

/** ln x of a positive, normal x, to double precision: `native/src/logarithm.h`. */
DEVICE double logarithm(double x) {
  const auto bits = static_cast<long long>(__double_as_longlong(x));
  const int exponent = static_cast<int>((bits - 0x3fe6a09e667f3bcdLL) >> 52);
  const double m = __longlong_as_double(bits - (static_cast<long long>(exponent) << 52));
  const double s = (m - 1) / (m + 1), square = s * s;
  double series = 1.0 / 21;
  UNROLL
  for (int n = 19; n >= 3; n -= 2) series = series * square + 1.0 / n;
  constexpr double HIGH = 0.693147180369123816490, LOW = 1.90821492927058770002e-10;
  return exponent * HIGH + (2 * s + (2 * s * square * series + exponent * LOW));
}
