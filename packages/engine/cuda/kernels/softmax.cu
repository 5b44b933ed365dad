/**
 * Softmax of each row [rows, width]: a warp for each. Lane t takes the elements t, t + 32, … from first to last; the
 * lanes are added by halves.
 */
#include "stock.h"

constexpr int THREADS = 256, LANES = 32;

DEVICE float larger(float a, float b) { return a > b || isNaN(a) ? a : b; }

KERNEL(softmax, THREADS, 4, const void* x, void* y, int from, int to, int rows, int width) {
  const int row = static_cast<int>(globalIndex() / LANES), lane = static_cast<int>(threadIdx.x % LANES);
  if (row >= rows) return;
  const uint64 begin = static_cast<uint64>(row) * width;
  float largest = -infinity();
  for (int i = lane; i < width; i += LANES) largest = larger(loadFloat(x, from, begin + i), largest);
  UNROLL
  for (int distance = LANES / 2; distance > 0; distance /= 2) {
    largest = larger(__shfl_xor_sync(0xffffffffu, largest, distance), largest);
  }
  float sum = 0.0f;
  for (int i = lane; i < width; i += LANES) sum += expOf(loadFloat(x, from, begin + i) - largest);
  sum = sumOfWarp(sum);
  for (int i = lane; i < width; i += LANES) {
    storeFloat(y, to, begin + i, __fdiv_rn(expOf(loadFloat(x, from, begin + i) - largest), sum));
  }
}
