/** What a layer adds to the residual stream: z = x + y, of bf16 or floats; z may be one of them. With floats it has the bits of `native`. */
#include "device.h"

constexpr int THREADS = 256, PER_THREAD = 4;

template <typename T>
DEVICE void add(const T* x, const T* y, T* z, uint64 length) {
  const uint64 first = static_cast<uint64>(blockIdx.x) * THREADS * PER_THREAD + threadIdx.x;
  UNROLL
  for (int j = 0; j < PER_THREAD; j++) {
    const uint64 i = first + j * THREADS;
    if (i < length) z[i] = fromFloat<T>(toFloat(x[i]) + toFloat(y[i]));
  }
}

KERNEL(addResidualBf16, THREADS, 6, const bf16* x, const bf16* y, bf16* z, uint64 length) { add(x, y, z, length); }
KERNEL(addResidualFloat, THREADS, 6, const float* x, const float* y, float* z, uint64 length) { add(x, y, z, length); }
