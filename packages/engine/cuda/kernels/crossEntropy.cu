/**
 * The cross-entropy of logits and its gradient: loss = log Σ e^x − x[target], gradient = scale · (softmax − one-hot). Where logits are
 * capped, x = cap·tanh(z / cap), the gradient is that of z. Shapes: logits [tokens, vocabulary] float; losses [tokens]; gradient
 * [tokens, vocabulary] bf16 or float. A token with a negative target has no loss and no gradient.
 *
 * A block of threads has a token. Thread t adds up the exponentials of t, t + 256, … from first to last, then the lanes of a warp are
 * added by halves, then the warps from first to last.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;

struct Shared {
  float most[WARPS], sum[WARPS];
};

DEVICE float larger(float a, float b) { return a > b ? a : b; }

template <typename T>
DEVICE void ofToken(const float* logits, const int* targets, float* losses, T* gradient, int vocabulary, float scale, float cap) {
  Shared& shared = sharedMemory<Shared>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float* row = logits + static_cast<uint64>(blockIdx.x) * vocabulary;
  T* gradientRow = gradient ? gradient + static_cast<uint64>(blockIdx.x) * vocabulary : nullptr;
  const int target = targets[blockIdx.x];
  if (target < 0) {
    for (int v = threadIdx.x; gradientRow && v < vocabulary; v += THREADS) gradientRow[v] = fromFloat<T>(0.0f);
    if (threadIdx.x == 0) losses[blockIdx.x] = 0;
    return;
  }
  const auto logit = [&](int v) { return cap > 0 ? cap * hyperbolicTangent(__fdiv_rn(row[v], cap)) : row[v]; };

  float most = -__uint_as_float(0x7f800000u);
  for (int v = threadIdx.x; v < vocabulary; v += THREADS) most = larger(most, logit(v));
  UNROLL
  for (int distance = 16; distance > 0; distance /= 2) most = larger(most, __shfl_xor_sync(0xffffffffu, most, distance));
  if (lane == 0) shared.most[warp] = most;
  __syncthreads();
  UNROLL
  for (int w = 0; w < WARPS; w++) most = larger(most, shared.most[w]);

  float sum = 0;
  for (int v = threadIdx.x; v < vocabulary; v += THREADS) sum += exponential(logit(v) - most);
  sum = sumOfWarp(sum);
  if (lane == 0) shared.sum[warp] = sum;
  __syncthreads();
  float total = 0;
  UNROLL
  for (int w = 0; w < WARPS; w++) total += shared.sum[w];

  if (threadIdx.x == 0) {
    // Not a number, where the sum is none.
    const double ofSum = total >= 1.0f ? logarithm(static_cast<double>(total)) : static_cast<double>(total);
    losses[blockIdx.x] = static_cast<float>(ofSum + static_cast<double>(most) - static_cast<double>(logit(target)));
  }
  for (int v = threadIdx.x; gradientRow && v < vocabulary; v += THREADS) {
    const float x = logit(v);
    const float probability = __fdiv_rn(exponential(x - most), total);
    const float slope = cap > 0 ? 1.0f - __fdiv_rn(x, cap) * __fdiv_rn(x, cap) : 1.0f;
    gradientRow[v] = fromFloat<T>(scale * slope * (v == target ? probability - 1.0f : probability));
  }
}

KERNEL(crossEntropyBf16, THREADS, 4, const float* logits, const int* targets, float* losses, bf16* gradient, int vocabulary, float scale,
       float cap) {
  ofToken(logits, targets, losses, gradient, vocabulary, scale, cap);
}

KERNEL(crossEntropyFloat, THREADS, 4, const float* logits, const int* targets, float* losses, float* gradient, int vocabulary, float scale,
       float cap) {
  ofToken(logits, targets, losses, gradient, vocabulary, scale, cap);
}
