/**
 * From the projection of an attention block to its heads, and back: queries and keys get an RMS norm for each head, whose gain the
 * heads share (none without a gain), and turn to their positions as in `rotaryEmbedding.cu`; values and gate logits are copied. Shapes:
 * projection [tokens, W], of which a row has for each key-value head the queries of its group and then their gate logits, then all
 * keys, then all values; q [tokens, H·D]; k, v [tokens, K·D]; gate [tokens, H·S]; gains [D]; cosine, sine [positions, D/2]; position
 * [tokens].
 *
 * A warp has a head of a token. A lane has the channels 2·lane + 64·i and the next one, and the two that turn with them, D/2 further
 * on. Sums over a head add up a lane's channels step by step, then the lanes by halves: the order depends on D alone.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;
/** Tokens whose contributions to the gains' gradients are added up together. */
constexpr int ROWS_OF_PART = 64;
constexpr int MOST_CHANNELS = 256, STEPS = MOST_CHANNELS / 128;

struct HeadShape {
  /** Query heads, key-value heads, channels of a head, gate logits of a query head. */
  int heads, keyValueHeads, headDim, gates;
};

/** A head of queries, keys or values, and its place in a row of the projection. */
struct Head {
  bool isQuery, isKey;
  int index, column, gateColumn;
};

DEVICE int unitsOf(HeadShape shape) { return shape.heads + 2 * shape.keyValueHeads; }
DEVICE int rowWidth(HeadShape shape) { return unitsOf(shape) * shape.headDim + shape.heads * shape.gates; }
DEVICE bool hasAlignedRows(HeadShape shape) { return shape.gates != 1; }

/** The heads of queries come first, then those of keys, then those of values. */
DEVICE Head headOf(int unit, HeadShape shape) {
  const int group = shape.heads / shape.keyValueHeads, groupWidth = group * (shape.headDim + shape.gates);
  if (unit < shape.heads) {
    const int begin = unit / group * groupWidth, inGroup = unit % group;
    return {true, false, unit, begin + inGroup * shape.headDim, begin + group * shape.headDim + inGroup * shape.gates};
  }
  const int beyond = unit - shape.heads, column = shape.keyValueHeads * groupWidth + beyond * shape.headDim;
  const bool isKey = beyond < shape.keyValueHeads;
  return {false, isKey, isKey ? beyond : beyond - shape.keyValueHeads, column, 0};
}

/** Two neighbouring channels, and those that turn with them. */
struct Quad {
  float near[2], far[2];
};

/** Two channels as they lie in memory. */
template <typename T>
struct alignas(2 * sizeof(T)) Pair {
  T at[2];
};

// With one gate logit a head, a row of the projection has odd places.
template <typename T>
DEVICE Pair<T> loadPair(const T* from, bool isAligned) {
  return isAligned ? *reinterpret_cast<const Pair<T>*>(aligned(from, sizeof(Pair<T>))) : Pair<T>{{from[0], from[1]}};
}
template <typename T>
DEVICE void storePair(T* to, Pair<T> pair, bool isAligned) {
  if (isAligned) {
    *reinterpret_cast<Pair<T>*>(aligned(to, sizeof(Pair<T>))) = pair;
  } else {
    to[0] = pair.at[0];
    to[1] = pair.at[1];
  }
}
template <typename T>
DEVICE void unpack(float (&values)[2], Pair<T> pair) {
  values[0] = toFloat(pair.at[0]);
  values[1] = toFloat(pair.at[1]);
}
template <typename T>
DEVICE Pair<T> packed(const float (&values)[2]) {
  return {{fromFloat<T>(values[0]), fromFloat<T>(values[1])}};
}

/** Calls `work(step, channel)` for the quads of the lane. */
template <typename Work>
DEVICE void forQuads(int half, const Work& work) {
  UNROLL
  for (int step = 0; step < STEPS; step++) {
    const int channel = static_cast<int>(threadIdx.x % 32) * 2 + step * 64;
    if (channel < half) work(step, channel);
  }
}

template <typename T>
DEVICE void loadHead(Quad (&head)[STEPS], const T* from, int half, bool isAligned) {
  forQuads(half, [&](int step, int channel) {
    unpack(head[step].near, loadPair(from + channel, isAligned));
    unpack(head[step].far, loadPair(from + channel + half, isAligned));
  });
}
template <typename T>
DEVICE void storeHead(T* to, const Quad (&head)[STEPS], int half, bool isAligned) {
  forQuads(half, [&](int step, int channel) {
    storePair(to + channel, packed<T>(head[step].near), isAligned);
    storePair(to + channel + half, packed<T>(head[step].far), isAligned);
  });
}
template <typename T>
DEVICE void copyHead(T* to, const T* from, int count, bool isAligned) {
  for (int at = static_cast<int>(threadIdx.x % 32) * 2; at < count; at += 64) {
    storePair(to + at, loadPair(from + at, isAligned), isAligned);
  }
}
/** The gate logits of a head: as many as it has channels, or one, or none. */
template <typename T>
DEVICE void copyGate(T* to, const T* from, int gates) {
  if (gates > 1) copyHead(to, from, gates, true);
  else if (gates == 1 && threadIdx.x % 32 == 0) *to = *from;
}

/** 1 / √(mean(x²) + ε) of a head. */
DEVICE float inverseOf(const Quad (&x)[STEPS], int half, float epsilon) {
  float sum = 0;
  forQuads(half, [&](int step, int) {
    UNROLL
    for (int i = 0; i < 2; i++) sum = __fmaf_rn(x[step].far[i], x[step].far[i], __fmaf_rn(x[step].near[i], x[step].near[i], sum));
  });
  return __fdiv_rn(1.0f, __fsqrt_rn(__fdiv_rn(sumOfWarp(sum), static_cast<float>(2 * half)) + epsilon));
}

/** Turns a head to the position of which these are the rows of the tables; back with a `direction` of −1. */
DEVICE void turn(Quad (&x)[STEPS], const float* cosine, const float* sine, int half, float direction) {
  forQuads(half, [&](int step, int channel) {
    UNROLL
    for (int i = 0; i < 2; i++) {
      const float first = x[step].near[i], second = x[step].far[i];
      const float c = cosine[channel + i], s = direction * sine[channel + i];
      x[step].near[i] = __fmaf_rn(first, c, -(second * s));
      x[step].far[i] = __fmaf_rn(second, c, first * s);
    }
  });
}

template <typename T>
DEVICE void forward(const T* projection, const float* qGain, const float* kGain, const float* cosine, const float* sine,
                    const int* position, T* q, T* k, T* v, T* gate, uint64 units, HeadShape shape, float epsilon) {
  const uint64 unit = globalIndex() / 32;
  if (unit >= units) return;
  const Head head = headOf(static_cast<int>(unit % unitsOf(shape)), shape);
  const uint64 token = unit / unitsOf(shape);
  const int half = shape.headDim / 2;
  const bool isAligned = hasAlignedRows(shape);
  const T* row = projection + token * rowWidth(shape);
  const uint64 at = (token * (head.isQuery ? shape.heads : shape.keyValueHeads) + head.index) * shape.headDim;
  if (!head.isQuery && !head.isKey) {
    copyHead(v + at, row + head.column, shape.headDim, isAligned);
    return;
  }
  Quad x[STEPS];
  loadHead(x, row + head.column, half, isAligned);
  const float* gain = head.isQuery ? qGain : kGain;
  if (gain) {
    const float r = inverseOf(x, half, epsilon);
    forQuads(half, [&](int step, int channel) {
      UNROLL
      for (int i = 0; i < 2; i++) {
        x[step].near[i] = x[step].near[i] * r * gain[channel + i];
        x[step].far[i] = x[step].far[i] * r * gain[channel + half + i];
      }
    });
  }
  const uint64 angles = static_cast<uint64>(position[token]) * half;
  turn(x, cosine + angles, sine + angles, half, 1.0f);
  storeHead((head.isQuery ? q : k) + at, x, half, true);
  if (head.isQuery) copyGate(gate + (token * shape.heads + head.index) * shape.gates, row + head.gateColumn, shape.gates);
}

struct Shared {
  float sums[WARPS][MOST_CHANNELS];
};

/**
 * The gradient of the projection, and what the gains' gradients are sums of: with n the turned-back gradient of a head, Σ n·x·r over the
 * tokens of a part, in qParts [H, parts, D] and kParts [K, parts, D]. A block has a head of the tokens of a part. Warp w adds up the
 * tokens w, w + 8, … from first to last, then warps are added from first to last.
 */
template <typename T>
DEVICE void backward(const T* projection, const float* qGain, const float* kGain, const float* cosine, const float* sine,
                     const int* position, const T* dq, const T* dk, const T* dv, const T* dGate, T* dProjection, float* qParts,
                     float* kParts, int tokens, HeadShape shape, float epsilon) {
  const Head head = headOf(blockIdx.y, shape);
  const int half = shape.headDim / 2, warp = threadIdx.x / 32;
  const bool isTurned = head.isQuery || head.isKey, isAligned = hasAlignedRows(shape);
  const T* gradient = head.isQuery ? dq : head.isKey ? dk : dv;
  const float* gain = head.isQuery ? qGain : head.isKey ? kGain : nullptr;
  const int beyond = static_cast<int>(blockIdx.x + 1) * ROWS_OF_PART, end = beyond < tokens ? beyond : tokens;
  Quad sums[STEPS] = {};
  for (int token = blockIdx.x * ROWS_OF_PART + warp; token < end; token += WARPS) {
    const uint64 at = (static_cast<uint64>(token) * (head.isQuery ? shape.heads : shape.keyValueHeads) + head.index) * shape.headDim;
    const uint64 begin = static_cast<uint64>(token) * rowWidth(shape);
    T* to = dProjection + begin + head.column;
    if (head.isQuery) {
      const uint64 logits = (static_cast<uint64>(token) * shape.heads + head.index) * shape.gates;
      copyGate(dProjection + begin + head.gateColumn, dGate + logits, shape.gates);
    }
    if (!isTurned) {
      copyHead(to, gradient + at, shape.headDim, isAligned);
      continue;
    }
    Quad n[STEPS];
    loadHead(n, gradient + at, half, true);
    const uint64 angles = static_cast<uint64>(position[token]) * half;
    turn(n, cosine + angles, sine + angles, half, -1.0f);
    if (gain) {
      Quad x[STEPS];
      loadHead(x, projection + begin + head.column, half, isAligned);
      const float r = inverseOf(x, half, epsilon);
      float dot = 0;
      forQuads(half, [&](int step, int channel) {
        UNROLL
        for (int i = 0; i < 2; i++) {
          dot = __fmaf_rn(n[step].near[i] * gain[channel + i], x[step].near[i], dot);
          dot = __fmaf_rn(n[step].far[i] * gain[channel + half + i], x[step].far[i], dot);
        }
      });
      const float pull = __fdiv_rn(sumOfWarp(dot) * r * r, static_cast<float>(shape.headDim));
      forQuads(half, [&](int step, int channel) {
        UNROLL
        for (int i = 0; i < 2; i++) {
          sums[step].near[i] = __fmaf_rn(n[step].near[i], x[step].near[i] * r, sums[step].near[i]);
          sums[step].far[i] = __fmaf_rn(n[step].far[i], x[step].far[i] * r, sums[step].far[i]);
          n[step].near[i] = r * __fmaf_rn(n[step].near[i], gain[channel + i], -(x[step].near[i] * pull));
          n[step].far[i] = r * __fmaf_rn(n[step].far[i], gain[channel + half + i], -(x[step].far[i] * pull));
        }
      });
    }
    storeHead(to, n, half, isAligned);
  }
  if (!gain) return;

  Shared& shared = sharedMemory<Shared>();
  forQuads(half, [&](int step, int channel) {
    UNROLL
    for (int i = 0; i < 2; i++) {
      shared.sums[warp][channel + i] = sums[step].near[i];
      shared.sums[warp][channel + half + i] = sums[step].far[i];
    }
  });
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= shape.headDim) return;
  float total = 0;
  UNROLL
  for (int w = 0; w < WARPS; w++) total += shared.sums[w][threadIdx.x];
  const uint64 part = static_cast<uint64>(head.index) * gridDim.x + blockIdx.x;
  (head.isQuery ? qParts : kParts)[part * shape.headDim + threadIdx.x] = total;
}

KERNEL(attentionHeadsBf16, THREADS, 4, const bf16* projection, const float* qGain, const float* kGain, const float* cosine,
       const float* sine, const int* position, bf16* q, bf16* k, bf16* v, bf16* gate, uint64 units, HeadShape shape, float epsilon) {
  forward(projection, qGain, kGain, cosine, sine, position, q, k, v, gate, units, shape, epsilon);
}
KERNEL(attentionHeadsBackwardBf16, THREADS, 2, const bf16* projection, const float* qGain, const float* kGain, const float* cosine,
       const float* sine, const int* position, const bf16* dq, const bf16* dk, const bf16* dv, const bf16* dGate, bf16* dProjection,
       float* qParts, float* kParts, int tokens, HeadShape shape, float epsilon) {
  backward(projection, qGain, kGain, cosine, sine, position, dq, dk, dv, dGate, dProjection, qParts, kParts, tokens, shape, epsilon);
}

KERNEL(attentionHeadsFloat, THREADS, 4, const float* projection, const float* qGain, const float* kGain, const float* cosine,
       const float* sine, const int* position, float* q, float* k, float* v, float* gate, uint64 units, HeadShape shape, float epsilon) {
  forward(projection, qGain, kGain, cosine, sine, position, q, k, v, gate, units, shape, epsilon);
}
KERNEL(attentionHeadsBackwardFloat, THREADS, 2, const float* projection, const float* qGain, const float* kGain, const float* cosine,
       const float* sine, const int* position, const float* dq, const float* dk, const float* dv, const float* dGate, float* dProjection,
       float* qParts, float* kParts, int tokens, HeadShape shape, float epsilon) {
  backward(projection, qGain, kGain, cosine, sine, position, dq, dk, dv, dGate, dProjection, qParts, kParts, tokens, shape, epsilon);
}
