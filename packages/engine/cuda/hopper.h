/**
 * Hopper's own instructions (sm_90a), for kernels of files whose names end with `Hopper`; other GPUs have none of them.
 *
 *  - Tiles of matrices are copied to shared memory, and back, by the copy engine (TMA), which one thread tells what to do. A tile has rows
 *    of 128 bytes with the 128-byte swizzle: 16-byte chunk c of row r lies at chunk c ^ (r mod 8). It begins at a multiple of 1024 bytes.
 *  - Barriers in shared memory (mbarrier) count arrivals of threads, and bytes that the copy engine has brought. Their phases have
 *    parities by turns, 0 first; who waits names the parity of the phase whose end it waits for.
 *  - Products of a warpgroup, four warps (wgmma), read operands from shared memory and run beside the arithmetic, in groups:
 *    `beginProducts`, `multiplyTiles` as often as wanted, `commitProducts`. Until `waitForProducts` nobody touches the sums.
 *
 * What threads write to shared memory themselves, the copy engine and products see after `publishWrites`.
 *
 * Sources: PTX ISA 8.0 and later, "Asynchronous Warpgroup Level Matrix Instructions", "Tensor Copies", "mbarrier"; CUTLASS's canonical
 * layouts of operands (cute/arch/mma_sm90_desc.hpp).
 */
#pragma once

#include "device.h"

/** A barrier in shared memory. */
struct alignas(8) Barrier {
  uint64 state;
};

/**
 * Where matrices lie, and the box of them that one copy takes: a `CUtensorMap`, which the driver makes (`src/cuda/tensorMaps.ts`). Its axes
 * are columns, rows, matrices; beyond the end of each are zeros. Kernels have them as parameters, `TENSOR_MAP name`.
 */
struct alignas(64) TensorMap {
  uint64 words[16];
};

constexpr int WARPGROUP = 128;
/** Values of a tile's row: 128 bytes of bf16. */
constexpr int PANEL = 64;

#ifdef __CUDACC__

#ifndef __CUDA_ARCH_FEAT_SM90_ALL
#error "kernels of files whose names end with Hopper are for sm_90a"
#endif

#define TENSOR_MAP const __grid_constant__ TensorMap

/** By one thread: phases end after so many arrivals. Others may use it after `publishBarriers` and a barrier of the block. */
DEVICE void initialize(Barrier& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sharedAddress(&barrier)), "r"(arrivals) : "memory");
}
/** Lets the copy engine see the barriers that this thread has initialised. */
DEVICE void publishBarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void arrive(Barrier& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(sharedAddress(&barrier)) : "memory");
}
/** Arrives, and lets the phase wait for so many bytes of tiles besides. */
DEVICE void expectBytes(Barrier& barrier, uint32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(sharedAddress(&barrier)), "r"(bytes) : "memory");
}
/** Waits for the end of the phase with this parity; before the first phase, the one with parity 1 has ended. */
DEVICE void waitFor(Barrier& barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::"r"(
          sharedAddress(&barrier)),
      "r"(parity)
      : "memory");
}

/** A barrier of `threads` threads, whole warps, which all name the same number from 1 to 15. */
DEVICE void syncThreads(int number, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory"); }
/** Counts at such a barrier without waiting. */
DEVICE void arriveThreads(int number, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory"); }

/** Begins to copy the map's box that begins there, whose bytes `barrier` expects. By one thread. */
DEVICE void beginTile(void* to, const TensorMap& map, int column, int row, int matrix, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
          sharedAddress(to)),
      "l"(&map), "r"(column), "r"(row), "r"(matrix), "r"(sharedAddress(&barrier))
      : "memory");
}
/** Begins to copy a tile to the map's box that begins there; nothing is written beyond the end. By one thread. */
DEVICE void beginStore(const TensorMap& map, const void* from, int column, int row, int matrix) {
  asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3}], [%4];" ::"l"(&map), "r"(column),
               "r"(row), "r"(matrix), "r"(sharedAddress(from))
               : "memory");
}
/** Makes a group of the stores that this thread has begun since the last one. */
DEVICE void commitStores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/** Waits until at most `underWay` of the thread's groups still read shared memory. */
template <int underWay>
DEVICE void waitForStores() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(underWay) : "memory");
}
/** Lets the copy engine and products see what this thread has written to shared memory, and what it knows that others have. */
DEVICE void publishWrites() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/** Registers of each thread from here on, for a whole warpgroup: more, when others have given them up. */
template <int registers>
DEVICE void raiseRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
DEVICE void lowerRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

/** Before a group of products: what this thread has done to its sums and fragments is done. */
DEVICE void beginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void commitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/** Waits until at most `underWay` of the warpgroup's groups are not done. */
template <int underWay>
DEVICE void waitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(underWay) : "memory");
}
/** Keeps the compiler from moving sums about while products are under way: before `beginProducts`, and after waiting. */
template <int N>
DEVICE void holdSums(float (&sums)[N]) {
  UNROLL
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(sums[i])::"memory");
}

DEVICE uint64 operandAt(const void* tile, int panelBytes) {
  constexpr uint64 SWIZZLE_OF_128_BYTES = 1ull << 62, EIGHT_ROWS = static_cast<uint64>(1024 >> 4) << 32;
  return (sharedAddress(tile) & 0x3ffff) >> 4 | static_cast<uint64>(panelBytes >> 4) << 16 | EIGHT_ROWS | SWIZZLE_OF_128_BYTES;
}

#define SUMS_8(i)                                                                                                              \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]), "+f"(sums[i + 6]), \
      "+f"(sums[i + 7])
#define SUMS_16(i) SUMS_8(i), SUMS_8(i + 8)
#define SUMS_32(i) SUMS_16(i), SUMS_16(i + 16)
#define SUMS_64(i) SUMS_32(i), SUMS_32(i + 32)
#define SUMS_128(i) SUMS_64(i), SUMS_64(i + 64)
#define TEN(d) ",%" #d "0,%" #d "1,%" #d "2,%" #d "3,%" #d "4,%" #d "5,%" #d "6,%" #d "7,%" #d "8,%" #d "9"
#define REGISTERS_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define REGISTERS_32 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9" TEN(1) TEN(2) ",%30,%31"
#define REGISTERS_64 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9" TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) ",%60,%61,%62,%63"
#define REGISTERS_128                                                                                                         \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9" TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) ",%120,%121,%122,%123,%124,%125,%126,%127"

// For each number of columns; p0, p1, … are the numbers of the operands after the sums.
#define PRODUCTS(columns, size, p0, p1, p2, p3, p4, p5, p6)                                                                    \
  template <int LEFT, int RIGHT>                                                                                              \
  DEVICE void multiplyTiles(float (&sums)[size], uint64 a, uint64 b, bool accumulate) {                                        \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns                    \
                 "k16.f32.bf16.bf16 {" REGISTERS_##size "}, %" #p0 ", %" #p1 ", p, 1, 1, %" #p3 ", %" #p4 ";\n}"               \
                 : SUMS_##size(0)                                                                                             \
                 : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(LEFT), "n"(RIGHT));                                  \
  }                                                                                                                           \
  template <int RIGHT>                                                                                                        \
  DEVICE void multiplyFragment(float (&sums)[size], const FragmentA& a, uint64 b, bool accumulate) {                           \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #p5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns                    \
                 "k16.f32.bf16.bf16 {" REGISTERS_##size "}, {%" #p0 ",%" #p1 ",%" #p2 ",%" #p3 "}, %" #p4 ", p, 1, 1, %" #p6   \
                 ";\n}"                                                                                                       \
                 : SUMS_##size(0)                                                                                             \
                 : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "l"(b), "r"(static_cast<int>(accumulate)), "n"(RIGHT)); \
  }
PRODUCTS(32, 16, 16, 17, 18, 19, 20, 21, 22)
PRODUCTS(64, 32, 32, 33, 34, 35, 36, 37, 38)
PRODUCTS(128, 64, 64, 65, 66, 67, 68, 69, 70)
PRODUCTS(256, 128, 128, 129, 130, 131, 132, 133, 134)
#undef PRODUCTS

#else

#include "emulator/hopper.h"

#endif

/*
 * multiplyTiles<LEFT, RIGHT>(sums, a, b, accumulate): sums [64, N] of a warpgroup = a [64, 16] · b [N, 16]ᵀ, added to what they are where
 * `accumulate`. (To begin with false in place of zeros saves the compiler from waiting for each product before the next.) N is 32, 64, 128
 * or 256, twice the number of a thread's sums: of warp w, columns 8j to 8j + 8 of rows 16w to 16w + 16 are a `FragmentC` at sums[4j].
 *
 * multiplyFragment<RIGHT>(sums, a, b, accumulate): the same with the left operand from registers, sixteen rows of each warp, which must
 * keep their values until the product was waited for.
 */

/** An operand whose rows lie along k: a tile [rows][PANEL]. The next sixteen k are `STEP<ALONG>` further. */
DEVICE uint64 operandAlong(const void* tile) { return operandAt(tile, 16); }
/** An operand whose rows lie across k: tiles [k][PANEL] of 64 rows each, `panelBytes` apart. The next sixteen k are `STEP<ACROSS>` further. */
DEVICE uint64 operandAcross(const void* tiles, int panelBytes) { return operandAt(tiles, panelBytes); }
template <int LAYOUT>
constexpr uint64 STEP = LAYOUT == ALONG ? 32 >> 4 : 16 * 128 >> 4;
