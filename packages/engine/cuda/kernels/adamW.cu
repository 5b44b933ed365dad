/**
 * AdamW (Loshchilov & Hutter, 2019) with PyTorch's formula: the roundings of `native/src/adamw.cc`, so that parameters and moments
 * have its bits. Master weights are float; `weights`, if there is one, gets them as bf16, to the nearest.
 */
#include "device.h"

constexpr int THREADS = 256;

struct Shared {
  float moved[THREADS / 32], were[THREADS / 32];
};

/** As the host computed it, in double precision. */
struct Update {
  float scale, moment1, moment2, decay, stepSize, rootCorrection, epsilon;
};

/**
 * A block of threads takes `blockElements` elements. `sums` gets, for each, the squares of how far its parameters moved and of what
 * they were: thread t adds up the elements t, t + 256, …, then lanes by halves, then warps from first to last.
 */
KERNEL(adamW, THREADS, 4, float* parameters, const float* gradients, float* firstMoments, float* secondMoments, bf16* weights,
       double* sums, uint64 length, int blockElements, Update update) {
  Shared& shared = sharedMemory<Shared>();
  const uint64 begin = static_cast<uint64>(blockIdx.x) * blockElements;
  const int count = static_cast<int>(length - begin < static_cast<uint64>(blockElements) ? length - begin : blockElements);
  float moved = 0, were = 0;
  for (int at = threadIdx.x; at < count; at += THREADS) {
    const uint64 i = begin + at;
    const float parameter = parameters[i], gradient = gradients[i] * update.scale;
    const float first = __fmaf_rn(gradient - firstMoments[i], update.moment1, firstMoments[i]);
    const float second = __fmaf_rn(gradient * gradient - secondMoments[i], update.moment2, secondMoments[i]);
    const float direction = __fdiv_rn(first, __fmaf_rn(__fsqrt_rn(second), update.rootCorrection, update.epsilon));
    const float move = __fmaf_rn(direction, update.stepSize, parameter * update.decay);
    const float moves = __fmaf_rn(direction, -update.stepSize, __fmaf_rn(parameter, -update.decay, parameter));
    moved = __fmaf_rn(move, move, moved);
    were = __fmaf_rn(parameter, parameter, were);
    parameters[i] = moves;
    firstMoments[i] = first;
    secondMoments[i] = second;
    if (weights) weights[i] = toBf16(moves);
  }
  moved = sumOfWarp(moved);
  were = sumOfWarp(were);
  if (threadIdx.x % 32 == 0) {
    shared.moved[threadIdx.x / 32] = moved;
    shared.were[threadIdx.x / 32] = were;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  double totalMoved = 0, totalWere = 0;
  for (int warp = 0; warp < THREADS / 32; warp++) {
    totalMoved += shared.moved[warp];
    totalWere += shared.were[warp];
  }
  sums[2 * blockIdx.x] = totalMoved;
  sums[2 * blockIdx.x + 1] = totalWere;
}
