/**
 * Rotary position embedding in the rotate-half convention: channels i and i + D/2 of a head turn together. Shapes: x, y
 * [tokens, heads, 2·half]; cosine, sine [positions, half]; position [tokens]. y may be x. With floats it has the bits of `native`.
 */
#include "device.h"

constexpr int THREADS = 256;

template <typename T>
DEVICE void turn(const T* x, const float* cosine, const float* sine, const int* position, T* y, uint64 pairs, int heads, int half,
                 int back) {
  const uint64 pair = globalIndex();
  if (pair >= pairs) return;
  const int i = static_cast<int>(pair % half);
  const uint64 head = pair / half, at = head * 2 * half + i;
  const uint64 angle = static_cast<uint64>(position[head / heads]) * half + i;
  const float first = toFloat(x[at]), second = toFloat(x[at + half]);
  const float c = cosine[angle], s = back ? -sine[angle] : sine[angle];
  y[at] = fromFloat<T>(__fmaf_rn(first, c, -(second * s)));
  y[at + half] = fromFloat<T>(__fmaf_rn(second, c, first * s));
}

KERNEL(rotaryEmbeddingBf16, THREADS, 6, const bf16* x, const float* cosine, const float* sine, const int* position, bf16* y,
       uint64 pairs, int heads, int half, int back) {
  turn(x, cosine, sine, position, y, pairs, heads, half, back);
}
KERNEL(rotaryEmbeddingFloat, THREADS, 6, const float* x, const float* cosine, const float* sine, const int* position, float* y,
       uint64 pairs, int heads, int half, int back) {
  turn(x, cosine, sine, position, y, pairs, heads, half, back);
}
