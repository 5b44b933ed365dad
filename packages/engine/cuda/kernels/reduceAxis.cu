/**
 * Reductions along axes. An output's elements are counted along the axes that go, and cut into parts of fixed length; `lanes` threads
 * share a part: 32, a warp, of which lane t takes the elements t, t + 32, … of it from first to last, and whose results are joined by
 * halves; or 1, where neighbouring outputs lie side by side. Parts are joined by another launch. So the order depends on the shape alone.
 */
#include "stock.h"

constexpr int THREADS = 256, LANES = 32;

DEVICE void load(float& x, const void* p, int storage, long long i) { x = loadFloat(p, storage, i); }
DEVICE void load(int& x, const void* p, int, long long i) { x = static_cast<const int*>(p)[i]; }
DEVICE void load(double& x, const void* p, int storage, long long i) {
  if (storage == I32) x = static_cast<const int*>(p)[i];
  else x = loadFloat(p, storage, i);
}

struct Sum {
  DEVICE static void start(float& x) { x = 0.0f; }
  DEVICE static void start(int& x) { x = 0; }
  DEVICE static float join(float a, float b) { return a + b; }
  DEVICE static int join(int a, int b) { return wrapped(static_cast<uint32>(a) + static_cast<uint32>(b)); }
};
struct Product {
  DEVICE static void start(float& x) { x = 1.0f; }
  DEVICE static void start(int& x) { x = 1; }
  DEVICE static float join(float a, float b) { return a * b; }
  DEVICE static int join(int a, int b) { return wrapped(static_cast<uint32>(a) * static_cast<uint32>(b)); }
};
// What is no number wins.
struct Largest {
  DEVICE static void start(float& x) { x = -infinity(); }
  DEVICE static void start(int& x) { x = wrapped(0x80000000u); }
  template <typename T>
  DEVICE static T join(T a, T b) {
    return a > b || a != a ? a : b;
  }
};
struct Smallest {
  DEVICE static void start(float& x) { x = infinity(); }
  DEVICE static void start(int& x) { x = 0x7fffffff; }
  template <typename T>
  DEVICE static T join(T a, T b) {
    return a < b || a != a ? a : b;
  }
};

/** Which part of which output a thread works on. */
struct Task {
  int output, part, lane;
};
DEVICE Task taskOf(int outputs, int lanes) {
  const uint64 worker = globalIndex() / lanes;
  return {static_cast<int>(worker % outputs), static_cast<int>(worker / outputs), static_cast<int>(threadIdx.x % lanes)};
}

DEVICE long long placeOf(const Layout1& layout, int i) {
  long long places[1] = {0};
  locate(layout, static_cast<uint32>(i), places);
  return places[0];
}

/** What there is to do. */
struct Reduction {
  /** Storages of x and y. */
  int from, to;
  int outputs, length, partLength, parts, lanes;
  /** What a sum is divided by. */
  float divisor;
};

DEVICE void store(float x, void* y, int storage, uint64 at) { storeFloat(y, storage, at, x); }
DEVICE void store(int x, void* y, int, uint64 at) { static_cast<int*>(y)[at] = x; }
DEVICE float divided(float x, float divisor) { return divisor == 1.0f ? x : __fdiv_rn(x, divisor); }
DEVICE int divided(int x, float) { return x; }

/** Writes what each part of each output gives, [parts, outputs]. */
template <typename T, typename Operation>
DEVICE void reduce(const void* x, void* y, const Reduction& of, const Layout1& kept, const Layout1& reduced) {
  const Task task = taskOf(of.outputs, of.lanes);
  if (task.part >= of.parts) return;
  const int begin = task.part * of.partLength;
  const int end = of.length - begin < of.partLength ? of.length : begin + of.partLength;
  const long long first = placeOf(kept, task.output);
  T result;
  Operation::start(result);
  for (int i = begin + task.lane; i < end; i += of.lanes) {
    T value;
    load(value, x, of.from, first + placeOf(reduced, i));
    result = Operation::join(result, value);
  }
  if (of.lanes == LANES) {
    UNROLL
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
      result = Operation::join(result, __shfl_xor_sync(0xffffffffu, result, distance));
    }
  }
  if (task.lane != 0) return;
  const uint64 at = static_cast<uint64>(task.part) * of.outputs + task.output;
  store(divided(result, of.divisor), y, of.to, at);
}

KERNEL(reduceSum, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<float, Sum>(x, y, of, kept, reduced);
}
KERNEL(reduceProduct, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<float, Product>(x, y, of, kept, reduced);
}
KERNEL(reduceLargest, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<float, Largest>(x, y, of, kept, reduced);
}
KERNEL(reduceSmallest, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<float, Smallest>(x, y, of, kept, reduced);
}
KERNEL(reduceSumInt, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<int, Sum>(x, y, of, kept, reduced);
}
KERNEL(reduceProductInt, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<int, Product>(x, y, of, kept, reduced);
}
KERNEL(reduceLargestInt, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<int, Largest>(x, y, of, kept, reduced);
}
KERNEL(reduceSmallestInt, THREADS, 4, const void* x, void* y, Reduction of, Layout1 kept, Layout1 reduced) {
  reduce<int, Smallest>(x, y, of, kept, reduced);
}

/** A value and where it is. Of equal ones the first counts; what is no number does not count. */
struct Place {
  double value;
  int index;
};
DEVICE Place better(const Place& a, const Place& b, double sign) {
  const double left = sign * a.value, right = sign * b.value;
  return left > right || (left == right && a.index < b.index) ? a : b;
}

DEVICE Place bestOfWarp(Place best, double sign) {
  UNROLL
  for (int distance = LANES / 2; distance > 0; distance /= 2) {
    const Place other = {__shfl_xor_sync(0xffffffffu, best.value, distance), __shfl_xor_sync(0xffffffffu, best.index, distance)};
    best = better(other, best, sign);
  }
  return best;
}

/** Where the largest of each output's elements is, or the smallest where `sign` is −1. One part. */
KERNEL(reduceToIndex, THREADS, 4, const void* x, int* y, Reduction of, float sign, Layout1 kept, Layout1 reduced) {
  const Task task = taskOf(of.outputs, of.lanes);
  if (task.part > 0) return;
  const long long first = placeOf(kept, task.output);
  Place best = {-sign * static_cast<double>(infinity()), 0x7fffffff};
  for (int i = task.lane; i < of.length; i += of.lanes) {
    Place here;
    load(here.value, x, of.from, first + placeOf(reduced, i));
    here.index = i;
    best = better(here, best, sign);
  }
  if (of.lanes == LANES) best = bestOfWarp(best, sign);
  if (task.lane == 0) y[task.output] = best.index == 0x7fffffff ? 0 : best.index;
}

/**
 * The `count` largest of each row [rows, width] with their places, largest first, of equal ones the first. A warp has a row, and goes
 * through it once for each: the next one is the best of those that come after the last.
 */
KERNEL(topK, THREADS, 4, const void* x, void* values, int* indices, int storage, int rows, int width, int count) {
  const int row = static_cast<int>(globalIndex() / LANES), lane = static_cast<int>(threadIdx.x % LANES);
  if (row >= rows) return;
  Place last = {static_cast<double>(infinity()), -1};
  for (int k = 0; k < count; k++) {
    Place best = {-static_cast<double>(infinity()), 0x7fffffff};
    for (int i = lane; i < width; i += LANES) {
      Place here;
      load(here.value, x, storage, static_cast<long long>(row) * width + i);
      here.index = i;
      const bool isAfter = here.value < last.value || (here.value == last.value && i > last.index);
      if (isAfter) best = better(here, best, 1.0);
    }
    best = bestOfWarp(best, 1.0);
    if (lane == 0) {
      const uint64 at = static_cast<uint64>(row) * count + k;
      const int index = best.index == 0x7fffffff ? 0 : best.index;
      indices[at] = index;
      if (storage == I32) static_cast<int*>(values)[at] = static_cast<int>(best.value);
      else storeFloat(values, storage, at, static_cast<float>(best.value));
    }
    last = best;
  }
}

/**
 * y[s, c] = Σ x[r, c] over the rows r whose id is s, from first to last: [segments, width] of [rows, width]. A thread has an element,
 * and looks through all ids.
 */
template <typename T>
DEVICE void segmentSum(const void* x, const int* ids, void* y, int from, int to, int rows, int width, int length) {
  const uint64 i = globalIndex();
  if (i >= static_cast<uint64>(length)) return;
  const int segment = static_cast<int>(i / width), column = static_cast<int>(i % width);
  T sum;
  Sum::start(sum);
  for (int row = 0; row < rows; row++) {
    if (ids[row] != segment) continue;
    T value;
    load(value, x, from, static_cast<long long>(row) * width + column);
    sum = Sum::join(sum, value);
  }
  store(sum, y, to, i);
}

KERNEL(segmentSums, THREADS, 4, const void* x, const int* ids, void* y, int from, int to, int rows, int width, int length) {
  segmentSum<float>(x, ids, y, from, to, rows, width, length);
}
KERNEL(segmentSumsInt, THREADS, 4, const void* x, const int* ids, void* y, int from, int to, int rows, int width, int length) {
  segmentSum<int>(x, ids, y, from, to, rows, width, length);
}
