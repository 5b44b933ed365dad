/**
 * Which rows the tokens' slots become, sorted by expert, then slot; and what experts' products are told of these rows. Shapes: M slots, of
 * which `indices` has the experts, each below E; P parts of 512 slots; order, position [M], inverse to each other; counts [E].
 *
 *  1. countSlots: slots of each expert in each part, [E, P].
 *  2. placeParts: the first row of each expert's slots of each part, in the same place, and counts. One block.
 *  3. placeSlots: order and position.
 *
 * All are whole numbers, so that nothing depends on an order.
 */
#include "device.h"

constexpr int THREADS = 128, SLOTS_OF_PART = 512;
constexpr int PLACING = 256;

struct Slots {
  int experts[SLOTS_OF_PART];
};

/** Brings the part's slots to shared memory. Returns how many there are. */
DEVICE int loadSlots(Slots& slots, const int* indices, int count) {
  const int begin = blockIdx.x * SLOTS_OF_PART, own = count - begin < SLOTS_OF_PART ? count - begin : SLOTS_OF_PART;
  for (int i = threadIdx.x; i < own; i += THREADS) slots.experts[i] = indices[begin + i];
  __syncthreads();
  return own;
}

KERNEL(countSlots, THREADS, 8, const int* indices, int* ofParts, int count, int experts) {
  Slots& slots = sharedMemory<Slots>();
  const int own = loadSlots(slots, indices, count);
  for (int expert = threadIdx.x; expert < experts; expert += THREADS) {
    int sum = 0;
    for (int i = 0; i < own; i++) sum += slots.experts[i] == expert;
    ofParts[static_cast<uint64>(expert) * gridDim.x + blockIdx.x] = sum;
  }
}

/** The sum of x over this lane and those before it. */
DEVICE int sumUntil(int x) {
  const int lane = threadIdx.x % 32;
  UNROLL
  for (int distance = 1; distance < 32; distance *= 2) {
    const int before = __shfl_sync(0xffffffffu, x, lane - distance);
    if (lane >= distance) x += before;
  }
  return x;
}

/** Of each of `count` numbers the sum of those before it, in its place, by one warp. Returns the sum of all. */
DEVICE int sumsBefore(int* values, int count) {
  const int lane = threadIdx.x % 32;
  int total = 0;
  for (int begin = 0; begin < count; begin += 32) {
    const int own = begin + lane < count ? values[begin + lane] : 0, until = sumUntil(own);
    if (begin + lane < count) values[begin + lane] = total + until - own;
    total += __shfl_sync(0xffffffffu, until, 31);
  }
  return total;
}

/** Shared memory: E words. */
KERNEL(placeParts, PLACING, 1, int* ofParts, int* counts, int parts, int experts) {
  int* first = &sharedMemory<int>();
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int expert = warp; expert < experts; expert += PLACING / 32) {
    const int total = sumsBefore(ofParts + static_cast<uint64>(expert) * parts, parts);
    if (lane == 0) counts[expert] = first[expert] = total;
  }
  __syncthreads();
  if (warp == 0) sumsBefore(first, experts);
  __syncthreads();
  for (int i = threadIdx.x; i < parts * experts; i += PLACING) ofParts[i] += first[i / parts];
}

KERNEL(placeSlots, THREADS, 8, const int* indices, const int* ofParts, int* order, int* position, int count, int experts) {
  Slots& slots = sharedMemory<Slots>();
  const int own = loadSlots(slots, indices, count), begin = blockIdx.x * SLOTS_OF_PART;
  for (int expert = threadIdx.x; expert < experts; expert += THREADS) {
    int row = ofParts[static_cast<uint64>(expert) * gridDim.x + blockIdx.x];
    for (int i = 0; i < own; i++) {
      if (slots.experts[i] != expert) continue;
      order[row] = begin + i;
      position[begin + i] = row++;
    }
  }
}

/**
 * For `expertProducts.cu`: tiles of `edge` rows [most, 3], those that nobody needs without rows, and segments [E, 3]; either may be left out.
 * One block. Shared memory: 2 · E words.
 */
KERNEL(expertRows, PLACING, 1, const int* counts, int* tiles, int* segments, int experts, int edge, int most) {
  int *firstRow = &sharedMemory<int>(), *firstTile = firstRow + experts;
  for (int expert = threadIdx.x; expert < experts; expert += PLACING) {
    firstRow[expert] = counts[expert];
    firstTile[expert] = (counts[expert] + edge - 1) / edge;
  }
  __syncthreads();
  if (threadIdx.x < 32) sumsBefore(firstRow, experts);
  else if (threadIdx.x < 64) sumsBefore(firstTile, experts);
  __syncthreads();
  for (int expert = threadIdx.x; expert < experts; expert += PLACING) {
    const int begin = firstRow[expert], count = counts[expert];
    if (segments) {
      segments[3 * expert] = begin;
      segments[3 * expert + 1] = count;
      segments[3 * expert + 2] = expert;
    }
    for (int i = 0; tiles && i * edge < count; i++) {
      int* tile = tiles + 3 * (firstTile[expert] + i);
      tile[0] = begin + i * edge;
      tile[1] = begin + count;
      tile[2] = expert;
    }
  }
  const int last = experts - 1, used = firstTile[last] + (counts[last] + edge - 1) / edge;
  for (int i = 3 * used + static_cast<int>(threadIdx.x); tiles && i < 3 * most; i += PLACING) tiles[i] = 0;
}
