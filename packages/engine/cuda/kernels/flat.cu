/**
 * Arithmetic on flat memory: parameters, gradients, moments. Every element is by itself, so nothing depends on how a buffer is cut.
 * Each thread takes four elements, a block's width apart, so that a warp's accesses lie side by side.
 */
#include "device.h"

constexpr int THREADS = 256, PER_THREAD = 4;

template <typename Work>
DEVICE void forEach(uint64 length, const Work& work) {
  const uint64 first = static_cast<uint64>(blockIdx.x) * THREADS * PER_THREAD + threadIdx.x;
  UNROLL
  for (int j = 0; j < PER_THREAD; j++) {
    const uint64 i = first + j * THREADS;
    if (i < length) work(i);
  }
}

/** x ← factor · x */
KERNEL(scale, THREADS, 6, float* x, uint64 length, float factor) {
  forEach(length, [&](uint64 i) { x[i] *= factor; });
}

/** y ← y + factor · x, in one rounding */
KERNEL(addScaled, THREADS, 6, float* y, const float* x, uint64 length, float factor) {
  forEach(length, [&](uint64 i) { y[i] = __fmaf_rn(factor, x[i], y[i]); });
}

/** To the nearest bf16, of two the even one. */
KERNEL(narrow, THREADS, 6, bf16* y, const float* x, uint64 length) {
  forEach(length, [&](uint64 i) { y[i] = toBf16(x[i]); });
}

KERNEL(widen, THREADS, 6, float* y, const bf16* x, uint64 length) {
  forEach(length, [&](uint64 i) { y[i] = toFloat(x[i]); });
}

/** y ← y + x, both rounded to bf16 before. */
KERNEL(addRounded, THREADS, 6, float* y, const float* x, uint64 length) {
  forEach(length, [&](uint64 i) { y[i] = toFloat(toBf16(y[i])) + toFloat(toBf16(x[i])); });
}

/** What one launch adds. */
constexpr int MOST_SOURCES = 32;
struct Sources {
  const float* at[MOST_SOURCES];
};

/**
 * The sum of `count` sources, by halves: the left one has the largest power of two of sources that is smaller than their number,
 * ((0+1)+(2+3))+((4+5)+6). The target may be one of them. Sums of 2^l sources wait in `waiting[l]` for their right half, as the
 * digits of a counter do.
 */
KERNEL(sumTree, THREADS, 4, float* target, Sources sources, int count, uint64 length) {
  forEach(length, [&](uint64 i) {
    float waiting[6];
    UNROLL
    for (int s = 0; s < MOST_SOURCES; s++) {
      if (s < count) {
        float sum = sources.at[s][i];
        UNROLL
        for (int level = 0; level < 6; level++) {
          // Bits of s below `level` are all set: a left half waits for each of them, and now comes to `level`.
          const bool reaches = (s & ((1 << level) - 1)) == (1 << level) - 1;
          if (reaches && level > 0) sum = waiting[level - 1] + sum;
          if (reaches && (s >> level & 1) == 0) waiting[level] = sum;
        }
      }
    }
    // What waits at the end has no right half of its own size: it gets what is smaller.
    float sum = 0;
    bool isFirst = true;
    UNROLL
    for (int level = 0; level < 6; level++) {
      if (count >> level & 1) {
        sum = isFirst ? waiting[level] : waiting[level] + sum;
        isFirst = false;
      }
    }
    target[i] = sum;
  });
}

/**
 * The sum of each column of `rows` rows, from the first row to the last: target[c] ← Σ parts[r][c], or target[c] + Σ where
 * `accumulate`. Sums over tokens are formed in parts of fixed length, which come together here.
 */
KERNEL(sumRows, THREADS, 6, float* target, const float* parts, int rows, int width, int accumulate) {
  const int column = static_cast<int>(globalIndex());
  if (column >= width) return;
  float sum = 0;
  for (int row = 0; row < rows; row++) sum += parts[static_cast<uint64>(row) * width + column];
  target[column] = accumulate ? target[column] + sum : sum;
}
