/**
 * Gated causal attention of new tokens to all tokens so far, whose keys and values are kept: softmax(q·kᵀ/√D)·v ⊙ σ(gate). Shapes: T new
 * tokens, the last of S; H query heads, K key-value heads, D channels of a head; q, y [T, H·D]; keys, values [S, K·D] in single precision;
 * gate [T, H·D], [T, H] or none; parts [P, H, T, D + 2] for P parts of 512 keys: the largest score to base 2, the sum of exponentials, and
 * the sums of values.
 *
 *  1. cachedAttention: a block has a part of the keys of a head and token, each of its four warps 128 keys, which it walks by 32, from first
 *     to last; then the warps are joined, from first to last.
 *  2. joinCachedAttention: the parts of a head and token are joined, from first to last.
 */
#include "device.h"

constexpr int THREADS = 128, WARPS = THREADS / 32;
constexpr int KEYS_OF_PART = 512;
constexpr int KEYS_OF_WARP = KEYS_OF_PART / WARPS;
constexpr int MOST_CHANNELS = 256;

struct Cached {
  int tokens, sequence, heads, keyValueHeads, headDim, gates;
  /** Keys that a query sees, its own being the last; 0 for all. */
  int window;
  /** log₂ e / √D; and where `isCapped` cap · log₂ e, and 1 / (cap · √D) */
  float toLog2, capLog2, overCap;
  int isCapped;
};

struct Shared {
  float query[MOST_CHANNELS];
  float top[WARPS], sum[WARPS], out[WARPS][MOST_CHANNELS];
};

constexpr float LOWEST = -3.4028234663852886e38f;

/** What a sum whose largest score was `top` counts where `most` is the largest. */
DEVICE float shareOf(float top, float most) { return exponential2(top - most); }

template <typename T>
DEVICE void attend(const T* q, const float* keys, const float* values, float* parts, Cached cached) {
  Shared& shared = sharedMemory<Shared>();
  const int channels = cached.headDim, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int head = blockIdx.y, token = blockIdx.z, source = head / (cached.heads / cached.keyValueHeads);
  const uint64 stride = static_cast<uint64>(cached.keyValueHeads) * channels, column = static_cast<uint64>(source) * channels;
  const T* query = q + (static_cast<uint64>(token) * cached.heads + head) * channels;
  for (int c = threadIdx.x; c < channels; c += THREADS) shared.query[c] = toFloat(query[c]);
  __syncthreads();

  const int last = cached.tokens - cached.sequence + token;
  const int first = cached.window > 0 && last + 1 > cached.window ? last + 1 - cached.window : 0;
  const int begin = blockIdx.x * KEYS_OF_PART + warp * KEYS_OF_WARP, end = begin + KEYS_OF_WARP;
  float top = LOWEST, sum = 0, out[MOST_CHANNELS / 32] = {};
  for (int tile = begin; tile < end && tile <= last; tile += 32) {
    if (tile + 31 < first) continue;
    const int key = tile + lane;
    const bool isSeen = key >= first && key <= last;
    float score = LOWEST;
    if (isSeen) {
      const float* row = keys + key * stride + column;
      float product = 0;
      for (int c = 0; c < channels; c++) product = __fmaf_rn(shared.query[c], row[c], product);
      score = cached.isCapped ? hyperbolicTangent(product * cached.overCap) * cached.capLog2 : product * cached.toLog2;
    }
    float most = score > top ? score : top;
    UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
      const float other = __shfl_xor_sync(0xffffffffu, most, distance);
      most = other > most ? other : most;
    }
    const float weight = isSeen ? exponential2(score - most) : 0.0f, shrink = shareOf(top, most);
    top = most;
    sum = __fmaf_rn(sum, shrink, sumOfWarp(weight));
    UNROLL
    for (int i = 0; i < MOST_CHANNELS / 32; i++) out[i] *= shrink;
    for (int j = 0; j < 32 && tile + j <= last; j++) {
      const float ofKey = __shfl_sync(0xffffffffu, weight, j);
      const float* row = values + (tile + j) * stride + column;
      UNROLL
      for (int i = 0; i < MOST_CHANNELS / 32; i++) {
        if (i * 32 + lane < channels) out[i] = __fmaf_rn(ofKey, row[i * 32 + lane], out[i]);
      }
    }
  }
  if (lane == 0) {
    shared.top[warp] = top;
    shared.sum[warp] = sum;
  }
  UNROLL
  for (int i = 0; i < MOST_CHANNELS / 32; i++) {
    if (i * 32 + lane < channels) shared.out[warp][i * 32 + lane] = out[i];
  }
  __syncthreads();
  float most = LOWEST;
  for (int w = 0; w < WARPS; w++) most = shared.top[w] > most ? shared.top[w] : most;
  float* part = parts + ((static_cast<uint64>(blockIdx.x) * cached.heads + head) * cached.sequence + token) * (channels + 2);
  for (int c = threadIdx.x; c < channels + 2; c += THREADS) {
    float total = 0;
    for (int w = 0; w < WARPS && c != 0; w++) {
      total = __fmaf_rn(c == 1 ? shared.sum[w] : shared.out[w][c - 2], shareOf(shared.top[w], most), total);
    }
    part[c] = c == 0 ? most : total;
  }
}

template <typename T>
DEVICE void join(const float* parts, const T* gate, T* y, int count, Cached cached) {
  const int channels = cached.headDim, head = blockIdx.x, token = blockIdx.y;
  const uint64 step = static_cast<uint64>(cached.heads) * cached.sequence * (channels + 2);
  const float* own = parts + (static_cast<uint64>(head) * cached.sequence + token) * (channels + 2);
  float most = LOWEST, sum = 0;
  for (int part = 0; part < count; part++) most = own[part * step] > most ? own[part * step] : most;
  for (int part = 0; part < count; part++) sum = __fmaf_rn(own[part * step + 1], shareOf(own[part * step], most), sum);
  const float inverse = __fdiv_rn(1.0f, sum);
  const uint64 row = static_cast<uint64>(token) * cached.heads + head;
  for (int c = threadIdx.x; c < channels; c += THREADS) {
    float total = 0;
    for (int part = 0; part < count; part++) {
      total = __fmaf_rn(own[part * step + 2 + c], shareOf(own[part * step], most), total);
    }
    const float open = cached.gates > 0 ? sigmoid(toFloat(gate[row * cached.gates + (cached.gates == 1 ? 0 : c)])) : 1.0f;
    y[row * channels + c] = fromFloat<T>(total * inverse * open);
  }
}

KERNEL(cachedAttentionBf16, THREADS, 4, const bf16* q, const float* keys, const float* values, float* parts, Cached cached) {
  attend(q, keys, values, parts, cached);
}
KERNEL(joinCachedAttentionBf16, THREADS, 4, const float* parts, const bf16* gate, bf16* y, int count, Cached cached) {
  join(parts, gate, y, count, cached);
}

KERNEL(cachedAttentionFloat, THREADS, 4, const float* q, const float* keys, const float* values, float* parts, Cached cached) {
  attend(q, keys, values, parts, cached);
}
KERNEL(joinCachedAttentionFloat, THREADS, 4, const float* parts, const float* gate, float* y, int count, Cached cached) {
  join(parts, gate, y, count, cached);
}
