/** Kernels with one mistake each, of the kinds that a GPU forgives by luck. */
#include "device.h"

constexpr int THREADS = 64;

struct Shared {
  float values[THREADS];
};

/** Shared memory in which something is written, by all threads, long before. */
DEVICE Shared& zeros() {
  Shared& shared = sharedMemory<Shared>();
  shared.values[threadIdx.x] = 0;
  __syncthreads();
  return shared;
}

KERNEL(withoutBarrier, THREADS, 1, float* y) {
  Shared& shared = zeros();
  shared.values[threadIdx.x] = static_cast<float>(threadIdx.x);
  y[threadIdx.x] = shared.values[THREADS - 1 - threadIdx.x];
}

// One barrier is there, but what was read before it is overwritten in the next round.
KERNEL(withOneBarrierTooFew, THREADS, 1, float* y) {
  Shared& shared = sharedMemory<Shared>();
  float sum = 0;
  for (int round = 0; round < 2; round++) {
    shared.values[threadIdx.x] = static_cast<float>(round);
    __syncthreads();
    sum += shared.values[(threadIdx.x + 1) % THREADS];
  }
  y[threadIdx.x] = sum;
}

// A barrier of the warp alone does not order warps.
KERNEL(withBarrierOfWarp, THREADS, 1, float* y) {
  Shared& shared = zeros();
  shared.values[threadIdx.x] = 1;
  __syncwarp();
  y[threadIdx.x] = shared.values[(threadIdx.x + 32) % THREADS];
}

KERNEL(rightWithBarrierOfWarp, THREADS, 1, float* y) {
  Shared& shared = sharedMemory<Shared>();
  shared.values[threadIdx.x] = static_cast<float>(threadIdx.x);
  __syncwarp();
  y[threadIdx.x] = shared.values[threadIdx.x ^ 1];
}

KERNEL(acrossBlocks, THREADS, 1, float* y) { y[threadIdx.x] = static_cast<float>(blockIdx.x); }

KERNEL(beyondTheEnd, THREADS, 1, float* y) { y[threadIdx.x + 1] = 0; }

KERNEL(unwritten, THREADS, 1, float* y) {
  Shared& shared = sharedMemory<Shared>();
  if (threadIdx.x < 8) shared.values[threadIdx.x] = 0;
  __syncthreads();
  y[threadIdx.x] = shared.values[threadIdx.x];
}

KERNEL(unwrittenMemory, THREADS, 1, float* y, const float* x) { y[threadIdx.x] = x[threadIdx.x]; }

KERNEL(misaligned, THREADS, 1, float* y) {
  const Pack<float> pack = {{1, 2, 3, 4}};
  if (threadIdx.x == 0) packAt(y + 1) = pack;
}

KERNEL(barrierInBranch, THREADS, 1, float* y) {
  y[threadIdx.x] = sumOfWarp(1.0f);
  __syncthreads();
  if (threadIdx.x == 0) __syncthreads(), __syncwarp();
}

KERNEL(exchangeInBranch, THREADS, 1, float* y) {
  if (threadIdx.x % 32 < 16) y[threadIdx.x] = sumOfWarp(1.0f);
}

KERNEL(differentOperations, THREADS, 1, float* y) {
  if (threadIdx.x % 2) __syncwarp();
  else y[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0);
}

// All lanes multiply, but the even ones at another place of the code than the odd ones.
KERNEL(productInBranches, THREADS, 1, float* y) {
  const FragmentA a = {};
  const FragmentC zeros = {};
  float sum;
  if (threadIdx.x % 2) sum = mma(zeros, a, {{1, 2}}).v[0];
  else sum = mma(zeros, a, {{3, 4}}).v[1];
  y[threadIdx.x] = sum;
}

// Both branches call the same function, of which a GPU has a copy in each.
DEVICE float sumOfSquares(const float* x) {
  float sum = 0;
  for (int i = 0; i < 4; i++) sum += sumOfWarp(x[i] * x[i]) + sumOfWarp(x[i]) * sumOfWarp(x[i] + 1);
  for (int i = 0; i < 4; i++) sum *= sumOfWarp(x[i] * sum) + sumOfWarp(x[i] - sum);
  return sum;
}
KERNEL(callInBranches, THREADS, 1, float* y, const float* x) {
  float sum;
  if (threadIdx.x % 2) sum = sumOfSquares(x);
  else sum = sumOfSquares(x + 4);
  y[threadIdx.x] = sum;
}

KERNEL(barrierInBranches, THREADS, 1, float* y) {
  if (threadIdx.x < 32) {
    y[threadIdx.x] = 1;
    __syncthreads();
  } else {
    __syncthreads();
    y[threadIdx.x] = 2;
  }
}

KERNEL(moreSharedMemory, THREADS, 1, float* y) {
  struct Larger {
    float values[2 * THREADS];
  };
  y[threadIdx.x] = sharedMemory<Larger>().values[0];
}

struct alignas(16) Copied {
  float values[4 * THREADS];
};

KERNEL(copyNotWaitedFor, THREADS, 1, float* y, const float* x) {
  Copied& shared = sharedMemory<Copied>();
  beginCopy(shared.values + 4 * threadIdx.x, x, true);
  commitCopies();
  y[threadIdx.x] = shared.values[4 * threadIdx.x];
}

KERNEL(copyOfAnother, THREADS, 1, float* y, const float* x) {
  Copied& shared = sharedMemory<Copied>();
  shared.values[(4 * threadIdx.x + 4) % (4 * THREADS)] = 0;
  __syncthreads();
  beginCopy(shared.values + 4 * threadIdx.x, x, true);
  commitCopies();
  waitForCopies<0>();
  y[threadIdx.x] = shared.values[(4 * threadIdx.x + 4) % (4 * THREADS)];
}

// The second copy may come before the first.
KERNEL(copyOverAnother, THREADS, 1, float* y, const float* x) {
  Copied& shared = sharedMemory<Copied>();
  for (int i = 0; i < 2; i++) {
    beginCopy(shared.values + 4 * threadIdx.x, x + 4 * i, true);
    commitCopies();
  }
  waitForCopies<0>();
  y[threadIdx.x] = shared.values[4 * threadIdx.x];
}

// Barriers order threads, and not what a thread has begun to copy.
KERNEL(writtenWhileCopied, THREADS, 1, float* y, const float* x) {
  Copied& shared = sharedMemory<Copied>();
  beginCopy(shared.values + 4 * threadIdx.x, x, true);
  commitCopies();
  __syncthreads();
  shared.values[4 * (THREADS - 1 - threadIdx.x)] = 2;
  __syncthreads();
  waitForCopies<0>();
  y[threadIdx.x] = shared.values[4 * threadIdx.x];
}

KERNEL(changedWhileCopied, THREADS, 1, float* y, float* x) {
  Copied& shared = sharedMemory<Copied>();
  beginCopy(shared.values + 4 * threadIdx.x, x, true);
  commitCopies();
  __syncthreads();
  if (threadIdx.x == 0) x[0] = 2;
  __syncthreads();
  waitForCopies<0>();
  y[threadIdx.x] = shared.values[4 * threadIdx.x];
}
