/**
 * A multiplicative gate on tensors that are divided into heads: out = y ⊙ σ(logits), where σ is the sigmoid or x·sigmoid(x), and heads may
 * share the mean of their scores. Shapes: y, dOut, out, dy [rows, heads·channels]; logits, dLogits [rows, heads·S], S = channels, or 1
 * where the gate is headwise.
 *
 * A warp has a row, a lane the channels lane, lane + 32, … of every head. Sums over heads go from first to last; sums over channels add
 * up a lane's from first to last, then the lanes by halves.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;

struct Gate {
  int heads, channels, isHeadwise, isSilu, isShared;
};

struct Row {
  uint64 y, logits;
  bool isThere;
};

DEVICE Row rowOf(int rows, Gate gate) {
  const uint64 row = static_cast<uint64>(blockIdx.x) * WARPS + threadIdx.x / 32;
  const uint64 heads = gate.heads;
  return {row * heads * gate.channels, row * heads * (gate.isHeadwise ? 1 : gate.channels), row < static_cast<uint64>(rows)};
}

DEVICE float scoreOf(float logit, Gate gate) { return gate.isSilu ? logit * sigmoid(logit) : sigmoid(logit); }
DEVICE float slopeOf(float logit, Gate gate) {
  const float s = sigmoid(logit);
  return gate.isSilu ? s * __fmaf_rn(logit, 1.0f - s, 1.0f) : s * (1.0f - s);
}

/** The mean of the heads' scores, of those that are `step` logits apart. */
template <typename T>
DEVICE float meanScore(const T* logits, int step, Gate gate) {
  float sum = 0;
  for (int head = 0; head < gate.heads; head++) sum += scoreOf(toFloat(logits[head * step]), gate);
  return __fdiv_rn(sum, static_cast<float>(gate.heads));
}

template <typename T>
DEVICE void forward(const T* y, const T* logits, T* out, int rows, Gate gate) {
  const Row row = rowOf(rows, gate);
  if (!row.isThere) return;
  const int lane = threadIdx.x % 32;
  if (gate.isHeadwise) {
    const float mean = gate.isShared ? meanScore(logits + row.logits, 1, gate) : 0.0f;
    for (int head = 0; head < gate.heads; head++) {
      const float score = gate.isShared ? mean : scoreOf(toFloat(logits[row.logits + head]), gate);
      for (int channel = lane; channel < gate.channels; channel += 32) {
        const uint64 at = row.y + head * gate.channels + channel;
        out[at] = fromFloat<T>(toFloat(y[at]) * score);
      }
    }
    return;
  }
  for (int channel = lane; channel < gate.channels; channel += 32) {
    const float mean = gate.isShared ? meanScore(logits + row.logits + channel, gate.channels, gate) : 0.0f;
    for (int head = 0; head < gate.heads; head++) {
      const uint64 at = row.y + head * gate.channels + channel;
      const float score = gate.isShared ? mean : scoreOf(toFloat(logits[at]), gate);
      out[at] = fromFloat<T>(toFloat(y[at]) * score);
    }
  }
}

/** The sum of dOut·y over a head's channels. */
template <typename T>
DEVICE float scoreGradient(const T* y, const T* dOut, int channels) {
  float sum = 0;
  for (int channel = threadIdx.x % 32; channel < channels; channel += 32) sum = __fmaf_rn(toFloat(dOut[channel]), toFloat(y[channel]), sum);
  return sumOfWarp(sum);
}

template <typename T>
DEVICE void headwiseBackward(const T* y, const T* logits, const T* dOut, T* dy, T* dLogits, Row row, Gate gate) {
  const int lane = threadIdx.x % 32;
  float mean = 0, shared = 0;
  if (gate.isShared) {
    mean = meanScore(logits + row.logits, 1, gate);
    for (int head = 0; head < gate.heads; head++) {
      const uint64 begin = row.y + head * gate.channels;
      shared += scoreGradient(y + begin, dOut + begin, gate.channels);
    }
    shared = __fdiv_rn(shared, static_cast<float>(gate.heads));
  }
  for (int head = 0; head < gate.heads; head++) {
    const uint64 begin = row.y + head * gate.channels;
    const float logit = toFloat(logits[row.logits + head]), score = gate.isShared ? mean : scoreOf(logit, gate);
    const float gradient = gate.isShared ? shared : scoreGradient(y + begin, dOut + begin, gate.channels);
    for (int channel = lane; channel < gate.channels; channel += 32) dy[begin + channel] = fromFloat<T>(toFloat(dOut[begin + channel]) * score);
    // All lanes have read the logit, whose place it may take.
    __syncwarp();
    if (lane == 0) dLogits[row.logits + head] = fromFloat<T>(gradient * slopeOf(logit, gate));
  }
}

/** The gradients of both operands. dy may be dOut, dLogits may be logits. */
template <typename T>
DEVICE void backward(const T* y, const T* logits, const T* dOut, T* dy, T* dLogits, int rows, Gate gate) {
  const Row row = rowOf(rows, gate);
  if (!row.isThere) return;
  if (gate.isHeadwise) {
    headwiseBackward(y, logits, dOut, dy, dLogits, row, gate);
    return;
  }
  for (int channel = threadIdx.x % 32; channel < gate.channels; channel += 32) {
    float mean = 0, shared = 0;
    if (gate.isShared) {
      mean = meanScore(logits + row.logits + channel, gate.channels, gate);
      for (int head = 0; head < gate.heads; head++) {
        const uint64 at = row.y + head * gate.channels + channel;
        shared = __fmaf_rn(toFloat(dOut[at]), toFloat(y[at]), shared);
      }
      shared = __fdiv_rn(shared, static_cast<float>(gate.heads));
    }
    for (int head = 0; head < gate.heads; head++) {
      const uint64 at = row.y + head * gate.channels + channel;
      const float logit = toFloat(logits[at]), gradient = toFloat(dOut[at]);
      const float ofScore = gate.isShared ? shared : gradient * toFloat(y[at]);
      dy[at] = fromFloat<T>(gradient * (gate.isShared ? mean : scoreOf(logit, gate)));
      dLogits[at] = fromFloat<T>(ofScore * slopeOf(logit, gate));
    }
  }
}

KERNEL(gateHeadsBf16, THREADS, 4, const bf16* y, const bf16* logits, bf16* out, int rows, Gate gate) { forward(y, logits, out, rows, gate); }
KERNEL(gateHeadsBackwardBf16, THREADS, 4, const bf16* y, const bf16* logits, const bf16* dOut, bf16* dy, bf16* dLogits, int rows, Gate gate) {
  backward(y, logits, dOut, dy, dLogits, rows, gate);
}

KERNEL(gateHeadsFloat, THREADS, 4, const float* y, const float* logits, float* out, int rows, Gate gate) { forward(y, logits, out, rows, gate); }
KERNEL(gateHeadsBackwardFloat, THREADS, 4, const float* y, const float* logits, const float* dOut, float* dy, float* dLogits, int rows, Gate gate) {
  backward(y, logits, dOut, dy, dLogits, rows, gate);
}
