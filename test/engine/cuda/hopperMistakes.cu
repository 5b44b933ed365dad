/** Kernels with one mistake each, in what Hopper's own instructions need. Right ones are among them, by the same pieces. */
#include "hopper.h"

constexpr int THREADS = 256, ROWS = 64;

struct Shared {
  alignas(1024) bf16 a[ROWS][PANEL];
  alignas(1024) bf16 b[ROWS][PANEL];
  alignas(1024) bf16 out[ROWS][PANEL];
  Barrier full, empty;
};
constexpr uint32 TILE_BYTES = ROWS * PANEL * 2;

/** Barriers that all may use: of a tile of one producer, which one thread of a warpgroup gives back. */
DEVICE Shared& begin() {
  Shared& shared = sharedMemory<Shared>();
  if (threadIdx.x == 0) {
    initialize(shared.full, 1);
    initialize(shared.empty, 1);
    publishBarriers();
  }
  __syncthreads();
  return shared;
}

/** Both tiles, by thread 0. */
DEVICE void bring(Shared& shared, const TensorMap& x, uint32 bytes = 2 * TILE_BYTES) {
  if (threadIdx.x != 0) return;
  expectBytes(shared.full, bytes);
  beginTile(shared.a, x, 0, 0, 0, shared.full);
  beginTile(shared.b, x, 0, 0, 0, shared.full);
}

DEVICE void multiply(Shared& shared, float (&sums)[32], uint64 step = STEP<ALONG>) {
  UNROLL
  for (int k = 0; k < PANEL / 16; k++)
    multiplyTiles<ALONG, ALONG>(sums, operandAlong(shared.a) + k * step, operandAlong(shared.b) + k * step, k > 0);
}

/** What the sums are, as rows of y. */
DEVICE void store(float* y, const float (&sums)[32]) {
  const int lane = threadIdx.x % 32, row = threadIdx.x % WARPGROUP / 32 * 16 + lane / 4;
  UNROLL
  for (int i = 0; i < 32; i++) y[(row + i % 4 / 2 * 8) * ROWS + i / 4 * 8 + lane % 4 * 2 + i % 2] = sums[i];
}

DEVICE void storeProduct(Shared& shared, float* y) {
  float sums[32];
  beginProducts();
  multiply(shared, sums);
  commitProducts();
  waitForProducts<0>();
  store(y, sums);
}

KERNEL(right, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  if (threadIdx.x >= WARPGROUP) return;
  waitFor(shared.full, 0);
  storeProduct(shared, y);
}

KERNEL(rightAcross, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  if (threadIdx.x >= WARPGROUP) return;
  waitFor(shared.full, 0);
  float sums[32];
  beginProducts();
  UNROLL
  for (int k = 0; k < PANEL / 16; k++)
    multiplyTiles<ACROSS, ACROSS>(sums, operandAcross(shared.a, TILE_BYTES) + k * STEP<ACROSS>,
                                  operandAcross(shared.b, TILE_BYTES) + k * STEP<ACROSS>, k > 0);
  commitProducts();
  waitForProducts<0>();
  store(y, sums);
}

/** The left operand from registers, read by threads; the result by the copy engine. */
KERNEL(rightFragment, THREADS, 1, TENSOR_MAP x, TENSOR_MAP y) {
  Shared& shared = begin();
  bring(shared, x);
  if (threadIdx.x >= WARPGROUP) return;
  waitFor(shared.full, 0);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane % 16;
  FragmentA left[PANEL / 16];
  UNROLL
  for (int k = 0; k < PANEL / 16; k++) {
    const Matrices m = loadMatrices(&shared.a[row][((k * 2 + lane / 16) ^ (row & 7)) * 8]);
    left[k] = {{m.r[0], m.r[1], m.r[2], m.r[3]}};
  }
  float sums[32];
  beginProducts();
  UNROLL
  for (int k = 0; k < PANEL / 16; k++) multiplyFragment<ALONG>(sums, left[k], operandAlong(shared.b) + k * STEP<ALONG>, k > 0);
  commitProducts();
  waitForProducts<0>();
  UNROLL
  for (int i = 0; i < 32; i += 2) {
    const int r = threadIdx.x / 32 * 16 + lane / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + lane % 4 * 2;
    *reinterpret_cast<uint32*>(&shared.out[r][(column / 8 ^ (r & 7)) * 8 + column % 8]) = packBf16(sums[i], sums[i + 1]);
  }
  publishWrites();
  syncThreads(1, WARPGROUP);
  if (threadIdx.x != 0) return;
  beginStore(y, shared.out, 0, 0, 0);
  commitStores();
  waitForStores<0>();
}

// Barriers.

KERNEL(notInitialised, THREADS, 1, TENSOR_MAP x, float* y) { waitFor(sharedMemory<Shared>().full, 0); }

KERNEL(initialisedByAnother, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = sharedMemory<Shared>();
  if (threadIdx.x == 0) initialize(shared.full, 1);
  __syncwarp();
  if (threadIdx.x == 32) arrive(shared.full);
}

KERNEL(barrierNotPublished, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = sharedMemory<Shared>();
  if (threadIdx.x == 0) initialize(shared.full, 1);
  __syncthreads();
  bring(shared, x);
}

KERNEL(parityThatNeverComes, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  waitFor(shared.full, 1);
}

KERNEL(parityBeforeTheFirst, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  __syncthreads();
  if (threadIdx.x >= WARPGROUP) return;
  waitFor(shared.full, 1);
  storeProduct(shared, y);
}

KERNEL(expectsNoBytes, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  if (threadIdx.x != 0) return;
  beginTile(shared.a, x, 0, 0, 0, shared.full);
  arrive(shared.full);
}

KERNEL(expectsTooManyBytes, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x, 3 * TILE_BYTES);
  waitFor(shared.full, 0);
}

KERNEL(namedBarrierOfOthers, THREADS, 1, TENSOR_MAP x, float* y) {
  begin();
  if (threadIdx.x < 64) syncThreads(1, WARPGROUP);
}

// Tiles.

KERNEL(tileNotWaitedFor, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  __syncthreads();
  y[threadIdx.x] = toFloat(shared.a[0][0]);
}

KERNEL(tileOverWhatIsRead, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  y[threadIdx.x] = toFloat(shared.a[0][0]);
  __syncwarp();
  bring(shared, x);
  waitFor(shared.full, 1);
}

KERNEL(tileOverAProduct, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  if (threadIdx.x >= WARPGROUP) return;
  waitFor(shared.full, 0);
  float sums[32];
  beginProducts();
  multiply(shared, sums);
  commitProducts();
  bring(shared, x);
  waitForProducts<0>();
  store(y, sums);
  waitFor(shared.full, 1);
}

// Zeros, where the second copy may come before the first.
KERNEL(copyOverAnother, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = sharedMemory<Shared>();
  for (int i = 0; i < 2; i++) {
    beginCopy(&shared.a[0][0] + 8 * threadIdx.x, y, false);
    commitCopies();
  }
  waitForCopies<0>();
}

KERNEL(tileMisplaced, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  if (threadIdx.x == 0) beginTile(shared.a[4], x, 0, 0, 0, shared.full);
}

KERNEL(tileLeftUnderWay, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
}

// Products.

KERNEL(productOfUnwaitedTile, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) storeProduct(shared, y);
}

/** Some of the warpgroup's threads have not waited. */
KERNEL(tileWaitedForByOneWarp, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  __syncthreads();
  if (threadIdx.x >= WARPGROUP) return;
  if (threadIdx.x < 32) waitFor(shared.full, 0);
  storeProduct(shared, y);
}

DEVICE void zeroTiles(Shared& shared) {
  for (int i = threadIdx.x; i < ROWS * PANEL; i += THREADS) shared.a[0][i] = shared.b[0][i] = {0};
}

KERNEL(writesNotPublished, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  zeroTiles(shared);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) storeProduct(shared, y);
}

KERNEL(writesPublishedTooEarly, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  publishWrites();
  zeroTiles(shared);
  __syncthreads();
  if (threadIdx.x < WARPGROUP) storeProduct(shared, y);
}

KERNEL(productNotBegun, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  multiply(shared, sums);
  commitProducts();
  waitForProducts<0>();
  store(y, sums);
}

KERNEL(sumsNotWaitedFor, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  beginProducts();
  multiply(shared, sums);
  commitProducts();
  waitForProducts<1>();
  store(y, sums);
}

KERNEL(fragmentOverwritten, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  FragmentA left = {{0, 0, 0, 0}};
  beginProducts();
  multiplyFragment<ALONG>(sums, left, operandAlong(shared.b), false);
  commitProducts();
  left.r[0] = threadIdx.x;
  waitForProducts<0>();
  store(y, sums);
  y[0] = left.r[0];
}

KERNEL(writesOverAProduct, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  beginProducts();
  multiply(shared, sums);
  commitProducts();
  shared.a[threadIdx.x % ROWS][0] = {0};
  waitForProducts<0>();
  store(y, sums);
}

KERNEL(operandMisplaced, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  beginProducts();
  multiply(shared, sums, 128 >> 4);
  commitProducts();
  waitForProducts<0>();
  store(y, sums);
}

KERNEL(operandNotSwizzled, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  beginProducts();
  multiplyTiles<ALONG, ALONG>(sums, operandAlong(shared.a) & ~(3ull << 62), operandAlong(shared.b), false);
  commitProducts();
  waitForProducts<0>();
  store(y, sums);
}

KERNEL(productOfPartOfAWarpgroup, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x < 96) storeProduct(shared, y);
}

// All threads multiply, but half of the warps at another place of the code.
KERNEL(productInBranches, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  const uint64 a = operandAlong(shared.a), b = operandAlong(shared.b);
  beginProducts();
  if (threadIdx.x < WARPGROUP / 2) multiplyTiles<ALONG, ALONG>(sums, a, b, false);
  else multiplyTiles<ALONG, ALONG>(sums, b, a, false);
  commitProducts();
  waitForProducts<0>();
  store(y, sums);
}

KERNEL(productsLeftUnderWay, THREADS, 1, TENSOR_MAP x, float* y) {
  Shared& shared = begin();
  bring(shared, x);
  waitFor(shared.full, 0);
  if (threadIdx.x >= WARPGROUP) return;
  float sums[32];
  beginProducts();
  multiply(shared, sums);
  commitProducts();
}

// Stores.

KERNEL(storeNotPublished, THREADS, 1, TENSOR_MAP x, TENSOR_MAP y) {
  Shared& shared = begin();
  zeroTiles(shared);
  __syncthreads();
  if (threadIdx.x != 0) return;
  beginStore(y, shared.a, 0, 0, 0);
  commitStores();
  waitForStores<0>();
}

KERNEL(storeOverwritten, THREADS, 1, TENSOR_MAP x, TENSOR_MAP y) {
  Shared& shared = begin();
  zeroTiles(shared);
  publishWrites();
  __syncthreads();
  if (threadIdx.x != 0) return;
  beginStore(y, shared.a, 0, 0, 0);
  commitStores();
  waitForStores<1>();
  shared.a[0][0] = {1};
  waitForStores<0>();
}

KERNEL(storesLeftUnderWay, THREADS, 1, TENSOR_MAP x, TENSOR_MAP y) {
  Shared& shared = begin();
  zeroTiles(shared);
  publishWrites();
  __syncthreads();
  if (threadIdx.x != 0) return;
  beginStore(y, shared.a, 0, 0, 0);
  commitStores();
}

// Registers.

KERNEL(registersOfNobody, THREADS, 2, TENSOR_MAP x, float* y) {
  if (threadIdx.x >= WARPGROUP) raiseRegisters<168>();
  else lowerRegisters<120>();
}
