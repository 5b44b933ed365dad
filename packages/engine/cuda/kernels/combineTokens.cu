/**
 * Tokens to the rows of their experts, what these made of them back to the tokens, and the way back. Shapes: N tokens, K experts a token,
 * M = N·K rows; x, out, dOut [N, width]; y, dy [M, width]; weights, dWeights [N, K] in single precision, or none, which is 1 for each;
 * position [N·K], the row of each slot n·K + k; order [M], the slot of each row.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;

/** y[m] = x[order[m] / K]. A warp has a row. */
template <typename T>
DEVICE void dispatch(const T* x, const int* order, T* y, int rows, int topK, int width) {
  const int row = static_cast<int>(blockIdx.x * WARPS + threadIdx.x / 32);
  if (row >= rows) return;
  const bool isPacked = width % Pack<T>::SIZE == 0;
  const uint64 from = static_cast<uint64>(order[row] / topK) * width, to = static_cast<uint64>(row) * width;
  for (int at = static_cast<int>(threadIdx.x % 32) * Pack<T>::SIZE; at < width; at += 32 * Pack<T>::SIZE) {
    float v[Pack<T>::SIZE];
    loadPack(v, x + from, at, width, isPacked);
    storePack(y + to, v, at, width, isPacked);
  }
}

/** out[n] = Σ_k weight · y[position[n·K + k]], from first to last. A warp has a token, a lane its packs. */
template <typename T>
DEVICE void combine(const T* y, const float* weights, const int* position, T* out, int tokens, int topK, int width) {
  const int token = static_cast<int>(blockIdx.x * WARPS + threadIdx.x / 32);
  if (token >= tokens) return;
  const bool isPacked = width % Pack<T>::SIZE == 0;
  const uint64 slots = static_cast<uint64>(token) * topK;
  for (int at = static_cast<int>(threadIdx.x % 32) * Pack<T>::SIZE; at < width; at += 32 * Pack<T>::SIZE) {
    float sum[Pack<T>::SIZE] = {};
    for (int k = 0; k < topK; k++) {
      float v[Pack<T>::SIZE];
      loadPack(v, y + static_cast<uint64>(position[slots + k]) * width, at, width, isPacked);
      const float weight = weights ? weights[slots + k] : 1.0f;
      UNROLL
      for (int i = 0; i < Pack<T>::SIZE; i++) sum[i] = __fmaf_rn(v[i], weight, sum[i]);
    }
    storePack(out + static_cast<uint64>(token) * width, sum, at, width, isPacked);
  }
}

/**
 * dy[m] = weight · dOut[n] and dWeights[slot] = Σ y[m]·dOut[n]: a lane's packs from first to last, then the lanes by halves. A warp has a
 * row. dy may be y.
 */
template <typename T>
DEVICE void backward(const T* y, const float* weights, const int* order, const T* dOut, T* dy, float* dWeights, int rows, int topK,
                     int width) {
  const int row = static_cast<int>(blockIdx.x * WARPS + threadIdx.x / 32);
  if (row >= rows) return;
  const bool isPacked = width % Pack<T>::SIZE == 0;
  const int slot = order[row];
  const float weight = weights[slot];
  const uint64 begin = static_cast<uint64>(row) * width, token = static_cast<uint64>(slot / topK) * width;
  float sum = 0;
  for (int at = static_cast<int>(threadIdx.x % 32) * Pack<T>::SIZE; at < width; at += 32 * Pack<T>::SIZE) {
    float v[Pack<T>::SIZE], gradient[Pack<T>::SIZE];
    loadPack(v, y + begin, at, width, isPacked);
    loadPack(gradient, dOut + token, at, width, isPacked);
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) {
      sum = __fmaf_rn(v[i], gradient[i], sum);
      gradient[i] = gradient[i] * weight;
    }
    storePack(dy + begin, gradient, at, width, isPacked);
  }
  sum = sumOfWarp(sum);
  if (threadIdx.x % 32 == 0) dWeights[slot] = sum;
}

KERNEL(dispatchTokensBf16, THREADS, 4, const bf16* x, const int* order, bf16* y, int rows, int topK, int width) {
  dispatch(x, order, y, rows, topK, width);
}
KERNEL(combineTokensBf16, THREADS, 4, const bf16* y, const float* weights, const int* position, bf16* out, int tokens, int topK, int width) {
  combine(y, weights, position, out, tokens, topK, width);
}
KERNEL(combineTokensBackwardBf16, THREADS, 4, const bf16* y, const float* weights, const int* order, const bf16* dOut, bf16* dy,
       float* dWeights, int rows, int topK, int width) {
  backward(y, weights, order, dOut, dy, dWeights, rows, topK, width);
}

KERNEL(dispatchTokensFloat, THREADS, 4, const float* x, const int* order, float* y, int rows, int topK, int width) {
  dispatch(x, order, y, rows, topK, width);
}
KERNEL(combineTokensFloat, THREADS, 4, const float* y, const float* weights, const int* position, float* out, int tokens, int topK, int width) {
  combine(y, weights, position, out, tokens, topK, width);
}
KERNEL(combineTokensBackwardFloat, THREADS, 4, const float* y, const float* weights, const int* order, const float* dOut, float* dy,
       float* dWeights, int rows, int topK, int width) {
  backward(y, weights, order, dOut, dy, dWeights, rows, topK, width);
}
