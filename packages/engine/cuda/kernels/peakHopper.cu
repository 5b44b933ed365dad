/** What a Hopper's tensor cores do at most: products of warpgroups on operands that are in shared memory already. */
#include "hopper.h"

constexpr int THREADS = 256, COLUMNS = 256;

struct Shared {
  /** Of each warpgroup. */
  alignas(1024) bf16 left[2][64][PANEL];
  alignas(1024) bf16 right[COLUMNS][PANEL];
};

/** Each warpgroup adds `steps` times four products of 64 × 16 by 16 × 256 to its sums. What comes out has no meaning but that it is needed. */
KERNEL(peakProductsHopper, THREADS, 1, float* sums, int steps) {
  Shared& shared = sharedMemory<Shared>();
  // Numbers between 1 and 2, of either sign: what a product costs depends on its bits.
  for (uint32 i = threadIdx.x; i < sizeof(Shared) / 2; i += THREADS) {
    shared.left[0][0][i].bits = static_cast<uint16>((i * 40503u >> 3 & 0x807fu) | 0x3f80u);
  }
  publishWrites();
  __syncthreads();
  const uint64 a = operandAlong(shared.left[threadIdx.x / WARPGROUP]), b = operandAlong(shared.right);
  float c[COLUMNS / 2];
  NO_UNROLL
  for (int step = 0; step < steps; step++) {
    holdSums(c);
    beginProducts();
    UNROLL
    for (int k = 0; k < PANEL / 16; k++) multiplyTiles<ALONG, ALONG>(c, a + k * STEP<ALONG>, b + k * STEP<ALONG>, step > 0 || k > 0);
    commitProducts();
    waitForProducts<1>();
    holdSums(c);
  }
  waitForProducts<0>();
  holdSums(c);
  float sum = 0;
  UNROLL
  for (int i = 0; i < COLUMNS / 2; i++) sum += c[i];
  sums[globalIndex()] = sum;
}
