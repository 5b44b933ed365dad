/**
 * Causal depthwise convolution over the last K tokens of a document, and silu of it: y[t] = Σ_{i<K} w[:, K−1−i] ⊙ x[t−i]. Shapes: N rows, C
 * channels; x, y, dy, dx [N, C]; weights [C, K] in single precision, of which the last tap belongs to the token itself; position [N], the
 * place of each row in its document; dz [N, C], the gradient of the sums.
 */
#include "device.h"

constexpr int THREADS = 256;
/** Tokens whose contributions to the gradient of the weights are added up together. */
constexpr int ROWS_OF_PART = 64;

/** Σ_i w[K−1−i] · x[row − i] over the taps that are in the document, the token's own first. */
template <typename T>
DEVICE float convolved(const T* x, const float* weights, int row, int channel, int position, int channels, int taps) {
  float sum = 0;
  for (int back = 0; back < taps && back <= position; back++) {
    const float value = toFloat(x[static_cast<uint64>(row - back) * channels + channel]);
    sum = __fmaf_rn(weights[channel * taps + taps - 1 - back], value, sum);
  }
  return sum;
}

template <typename T>
DEVICE void forward(const T* x, const float* weights, const int* position, T* y, uint64 elements, int channels, int taps, int isSilu) {
  const uint64 i = globalIndex();
  if (i >= elements) return;
  const int row = static_cast<int>(i / channels), channel = static_cast<int>(i % channels);
  const float z = convolved(x, weights, row, channel, position[row], channels, taps);
  y[i] = fromFloat<T>(isSilu ? z * sigmoid(z) : z);
}

/** dz = dy ⊙ silu'(z), or dy. */
template <typename T>
DEVICE void slopes(const T* x, const float* weights, const int* position, const T* dy, float* dz, uint64 elements, int channels, int taps,
                   int isSilu) {
  const uint64 i = globalIndex();
  if (i >= elements) return;
  const int row = static_cast<int>(i / channels), channel = static_cast<int>(i % channels);
  float slope = 1;
  if (isSilu) {
    const float z = convolved(x, weights, row, channel, position[row], channels, taps), open = sigmoid(z);
    slope = open * __fmaf_rn(z, 1.0f - open, 1.0f);
  }
  dz[i] = toFloat(dy[i]) * slope;
}

/** dx[t] = Σ_{i<K} w[:, K−1−i] ⊙ dz[t+i], over the tokens that are in the document, from the token itself on. */
template <typename T>
DEVICE void backward(const float* weights, const int* position, const float* dz, T* dx, uint64 elements, int channels, int taps) {
  const uint64 i = globalIndex();
  if (i >= elements) return;
  const int rows = static_cast<int>(elements / channels), row = static_cast<int>(i / channels), channel = static_cast<int>(i % channels);
  float sum = 0;
  for (int ahead = 0; ahead < taps && row + ahead < rows && position[row + ahead] >= ahead; ahead++) {
    sum = __fmaf_rn(weights[channel * taps + taps - 1 - ahead], dz[static_cast<uint64>(row + ahead) * channels + channel], sum);
  }
  dx[i] = fromFloat<T>(sum);
}

/** parts [⌈N/64⌉, C, K]: Σ dz[t] ⊙ x[t−i] over 64 tokens from first to last. The grid: channels, then parts. */
template <typename T>
DEVICE void weightParts(const T* x, const int* position, const float* dz, float* parts, int rows, int channels, int taps) {
  const int place = static_cast<int>(blockIdx.x * THREADS + threadIdx.x), channel = place / taps, back = taps - 1 - place % taps;
  if (channel >= channels) return;
  const int begin = blockIdx.y * ROWS_OF_PART, end = begin + ROWS_OF_PART < rows ? begin + ROWS_OF_PART : rows;
  float sum = 0;
  for (int row = begin; row < end; row++) {
    if (position[row] < back) continue;
    sum = __fmaf_rn(dz[static_cast<uint64>(row) * channels + channel], toFloat(x[static_cast<uint64>(row - back) * channels + channel]), sum);
  }
  parts[static_cast<uint64>(blockIdx.y) * channels * taps + place] = sum;
}

KERNEL(shortConvolutionBf16, THREADS, 4, const bf16* x, const float* weights, const int* position, bf16* y, uint64 elements, int channels,
       int taps, int isSilu) {
  forward(x, weights, position, y, elements, channels, taps, isSilu);
}
KERNEL(shortConvolutionSlopeBf16, THREADS, 4, const bf16* x, const float* weights, const int* position, const bf16* dy, float* dz,
       uint64 elements, int channels, int taps, int isSilu) {
  slopes(x, weights, position, dy, dz, elements, channels, taps, isSilu);
}
KERNEL(shortConvolutionBackwardBf16, THREADS, 4, const float* weights, const int* position, const float* dz, bf16* dx, uint64 elements,
       int channels, int taps) {
  backward(weights, position, dz, dx, elements, channels, taps);
}
KERNEL(shortConvolutionWeightsBf16, THREADS, 4, const bf16* x, const int* position, const float* dz, float* parts, int rows, int channels,
       int taps) {
  weightParts(x, position, dz, parts, rows, channels, taps);
}

KERNEL(shortConvolutionFloat, THREADS, 4, const float* x, const float* weights, const int* position, float* y, uint64 elements, int channels,
       int taps, int isSilu) {
  forward(x, weights, position, y, elements, channels, taps, isSilu);
}
KERNEL(shortConvolutionSlopeFloat, THREADS, 4, const float* x, const float* weights, const int* position, const float* dy, float* dz,
       uint64 elements, int channels, int taps, int isSilu) {
  slopes(x, weights, position, dy, dz, elements, channels, taps, isSilu);
}
KERNEL(shortConvolutionBackwardFloat, THREADS, 4, const float* weights, const int* position, const float* dz, float* dx, uint64 elements,
       int channels, int taps) {
  backward(weights, position, dz, dx, elements, channels, taps);
}
KERNEL(shortConvolutionWeightsFloat, THREADS, 4, const float* x, const int* position, const float* dz, float* parts, int rows, int channels,
       int taps) {
  weightParts(x, position, dz, parts, rows, channels, taps);
}
