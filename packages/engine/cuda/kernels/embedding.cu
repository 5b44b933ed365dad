/**
 * Rows of a table by token id, and the table's gradient. Shapes: table [vocabulary, width], y and dy [tokens, width]. Ids were checked
 * by the host. The gradient is float, and adds up in order of the tokens, onto what is there: the bits of `native` with floats.
 */
#include "device.h"

constexpr int THREADS = 256, WARPS = THREADS / 32;

/** A warp has a token. */
template <typename T>
DEVICE void gather(const int* ids, const T* table, T* y, int tokens, int width) {
  const int token = static_cast<int>(blockIdx.x * WARPS + threadIdx.x / 32);
  if (token >= tokens) return;
  const T* from = table + static_cast<uint64>(ids[token]) * width;
  T* to = y + static_cast<uint64>(token) * width;
  const bool isPacked = width % Pack<T>::SIZE == 0;
  const int step = isPacked ? Pack<T>::SIZE : 1;
  for (int at = static_cast<int>(threadIdx.x % 32) * step; at < width; at += 32 * step) {
    if (isPacked) packAt(to + at) = packAt(from + at);
    else to[at] = from[at];
  }
}

/**
 * Tokens are sorted by id, those of one id in their own order: those of the i-th id that occurs, `rows[i]`, are
 * tokens[starts[i]] … tokens[starts[i + 1] − 1]. A block has an id, the grid's first axis, and 256 channels.
 */
template <typename T>
DEVICE void scatter(const int* rows, const int* starts, const int* tokens, const T* dy, float* dTable, int width) {
  const int column = blockIdx.y * THREADS + threadIdx.x;
  if (column >= width) return;
  float& target = dTable[static_cast<uint64>(rows[blockIdx.x]) * width + column];
  float sum = target;
  for (int i = starts[blockIdx.x]; i < starts[blockIdx.x + 1]; i++) {
    sum += toFloat(dy[static_cast<uint64>(tokens[i]) * width + column]);
  }
  target = sum;
}

KERNEL(embeddingBf16, THREADS, 6, const int* ids, const bf16* table, bf16* y, int tokens, int width) {
  gather(ids, table, y, tokens, width);
}
KERNEL(embeddingFloat, THREADS, 6, const int* ids, const float* table, float* y, int tokens, int width) {
  gather(ids, table, y, tokens, width);
}
KERNEL(embeddingBackwardBf16, THREADS, 6, const int* rows, const int* starts, const int* tokens, const bf16* dy, float* dTable,
       int width) {
  scatter(rows, starts, tokens, dy, dTable, width);
}
KERNEL(embeddingBackwardFloat, THREADS, 6, const int* rows, const int* starts, const int* tokens, const float* dy, float* dTable,
       int width) {
  scatter(rows, starts, tokens, dy, dTable, width);
}
