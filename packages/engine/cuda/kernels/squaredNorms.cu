/**
 * Sums of squares of blocks of values, in double precision: a block of threads for each. Thread t adds up the elements t, t + 256, …
 * of the block from first to last, then the lanes of a warp are added by halves, then the warps from first to last.
 */
#include "device.h"

constexpr int THREADS = 256;

struct Shared {
  double ofWarp[THREADS / 32];
};

KERNEL(squaredNorms, THREADS, 4, const float* values, double* norms, uint64 length, int blockElements) {
  Shared& shared = sharedMemory<Shared>();
  const uint64 begin = static_cast<uint64>(blockIdx.x) * blockElements;
  const int count = static_cast<int>(length - begin < static_cast<uint64>(blockElements) ? length - begin : blockElements);
  double sum = 0;
  for (int i = threadIdx.x; i < count; i += THREADS) sum += static_cast<double>(values[begin + i]) * values[begin + i];
  sum = sumOfWarp(sum);
  if (threadIdx.x % 32 == 0) shared.ofWarp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0;
  for (int warp = 0; warp < THREADS / 32; warp++) total += shared.ofWarp[warp];
  norms[blockIdx.x] = total;
}
