/**
 * RMS norm over the last axis: y = x · r · gain with r = 1 / √(mean(x²) + ε), forward and backward. Activations are bf16 or float,
 * gains, their gradient and r are float. Shapes: x, y, dy, dx [rows, width]; gain [width]; inverse (r) [rows].
 *
 * A warp has a row. Lane l adds up the packs l, l + 32, … of it (16 bytes each) from first to last, then lanes are added by halves:
 * the order depends on the width alone.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;
/** Tokens whose contributions to the gain's gradient are added up together, from first to last. */
constexpr int ROWS_OF_PART = 64;

/** Calls `work(at)` for the packs of a row that belong to the lane. */
template <typename T, typename Work>
DEVICE void forPacks(int width, const Work& work) {
  for (int at = static_cast<int>(threadIdx.x % 32) * Pack<T>::SIZE; at < width; at += 32 * Pack<T>::SIZE) work(at);
}

DEVICE int rowOfWarp() { return static_cast<int>(blockIdx.x * WARPS + threadIdx.x / 32); }

template <typename T>
DEVICE void forward(const T* x, const float* gain, T* y, float* inverse, int rows, int width, float epsilon) {
  const int row = rowOfWarp();
  if (row >= rows) return;
  const bool isPacked = width % Pack<T>::SIZE == 0;
  const T* from = x + static_cast<uint64>(row) * width;
  T* to = y + static_cast<uint64>(row) * width;
  float sum = 0;
  forPacks<T>(width, [&](int at) {
    float v[Pack<T>::SIZE];
    loadPack(v, from, at, width, isPacked);
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) sum = __fmaf_rn(v[i], v[i], sum);
  });
  const float r = __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(sumOfWarp(sum), static_cast<float>(width)) + epsilon));
  forPacks<T>(width, [&](int at) {
    float v[Pack<T>::SIZE];
    loadPack(v, from, at, width, isPacked);
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) {
      if (at + i < width) v[i] = v[i] * r * gain[at + i];
    }
    storePack(to, v, at, width, isPacked);
  });
  if (threadIdx.x % 32 == 0) inverse[row] = r;
}

/** dx = r · (dy·gain − x · r² · mean(dy·gain·x)); dx may be dy. */
template <typename T>
DEVICE void backward(const T* x, const float* gain, const T* dy, const float* inverse, T* dx, int rows, int width) {
  const int row = rowOfWarp();
  if (row >= rows) return;
  const bool isPacked = width % Pack<T>::SIZE == 0;
  const uint64 begin = static_cast<uint64>(row) * width;
  float dot = 0;
  forPacks<T>(width, [&](int at) {
    float v[Pack<T>::SIZE], g[Pack<T>::SIZE];
    loadPack(v, x + begin, at, width, isPacked);
    loadPack(g, dy + begin, at, width, isPacked);
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) {
      if (at + i < width) dot = __fmaf_rn(g[i] * gain[at + i], v[i], dot);
    }
  });
  const float r = inverse[row];
  const float pull = __fdiv_rn(sumOfWarp(dot) * r * r, static_cast<float>(width));
  forPacks<T>(width, [&](int at) {
    float v[Pack<T>::SIZE], g[Pack<T>::SIZE];
    loadPack(v, x + begin, at, width, isPacked);
    loadPack(g, dy + begin, at, width, isPacked);
    UNROLL
    for (int i = 0; i < Pack<T>::SIZE; i++) {
      if (at + i < width) g[i] = r * __fmaf_rn(g[i], gain[at + i], -(v[i] * pull));
    }
    storePack(dx + begin, g, at, width, isPacked);
  });
}

/** parts[p][c] = Σ dy·x·r over the rows of part p. The grid: parts, of which there may be many, then channels, of which a thread has one. */
template <typename T>
DEVICE void gainParts(const T* x, const T* dy, const float* inverse, float* parts, int rows, int width) {
  const int column = static_cast<int>(blockIdx.y * THREADS + threadIdx.x);
  if (column >= width) return;
  const int first = blockIdx.x * ROWS_OF_PART;
  float sum = 0;
  for (int row = first; row < rows && row < first + ROWS_OF_PART; row++) {
    const uint64 at = static_cast<uint64>(row) * width + column;
    sum = __fmaf_rn(toFloat(dy[at]), toFloat(x[at]) * inverse[row], sum);
  }
  parts[static_cast<uint64>(blockIdx.x) * width + column] = sum;
}

KERNEL(rmsNormBf16, THREADS, 4, const bf16* x, const float* gain, bf16* y, float* inverse, int rows, int width, float epsilon) {
  forward(x, gain, y, inverse, rows, width, epsilon);
}
KERNEL(rmsNormFloat, THREADS, 4, const float* x, const float* gain, float* y, float* inverse, int rows, int width, float epsilon) {
  forward(x, gain, y, inverse, rows, width, epsilon);
}
KERNEL(rmsNormBackwardBf16, THREADS, 4, const bf16* x, const float* gain, const bf16* dy, const float* inverse, bf16* dx, int rows,
       int width) {
  backward(x, gain, dy, inverse, dx, rows, width);
}
KERNEL(rmsNormBackwardFloat, THREADS, 4, const float* x, const float* gain, const float* dy, const float* inverse, float* dx,
       int rows, int width) {
  backward(x, gain, dy, inverse, dx, rows, width);
}
KERNEL(rmsNormGainBf16, THREADS, 4, const bf16* x, const bf16* dy, const float* inverse, float* parts, int rows, int width) {
  gainParts(x, dy, inverse, parts, rows, width);
}
KERNEL(rmsNormGainFloat, THREADS, 4, const float* x, const float* dy, const float* inverse, float* parts, int rows, int width) {
  gainParts(x, dy, inverse, parts, rows, width);
}
