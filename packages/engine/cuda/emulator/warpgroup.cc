/**
 * Products of warpgroups. One is computed when the first thread waits for it, from what its operands are then, and each thread gets its
 * sums when it waits itself; before, they are not numbers.
 */

#include <algorithm>
#include <cstring>
#include <deque>
#include <list>
#include <memory>

#include "copyEngine.h"
#include "tensorCore.h"

namespace emulator {

namespace {

/** The sums of a warpgroup's products, one after the other, until all threads have them. */
struct Sums {
  float* at[WARPGROUP];
  int columns;
  /** Row after row. */
  std::vector<float> values;
  uint32_t lastGroup;
  bool isDelivered[WARPGROUP] = {};
};

struct Product {
  ProductOperands operands;
  std::vector<FragmentA> fragments;
  const FragmentA* fragmentsAt[WARPGROUP];
  bool accumulate;
  Sums* sums;
  uint32_t group;
};

struct Warpgroup {
  Meeting meeting;
  /** What each thread hands over. */
  float* sums[WARPGROUP];
  ProductOperands operands[WARPGROUP];
  bool accumulate[WARPGROUP];
  std::deque<Product> products;
  std::list<Sums> underWay;
  /** Groups that were committed, and those that each thread has waited for. */
  uint32_t groups = 0, waited[WARPGROUP] = {};
  bool isFenced[WARPGROUP] = {}, isNewGroup = true;
};
std::vector<Warpgroup> warpgroups;

Warpgroup& own() {
  const size_t number = now().thread / WARPGROUP;
  if (number >= warpgroups.size()) fault("a product by less than a warpgroup");
  return warpgroups[number];
}
int threadOfGroup() { return now().thread % WARPGROUP; }

/** A matrix descriptor, by the fields of its bits. */
struct Descriptor {
  uint32_t start, panelBytes, groupBytes, baseOffset, swizzle;
  explicit Descriptor(uint64 bits)
      : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
        panelBytes(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        groupBytes(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
        baseOffset(bits >> 49 & 7),
        swizzle(static_cast<uint32_t>(bits >> 62)) {}

  void check(const void* place) const {
    if (swizzle != 1) fault("an operand without the 128-byte swizzle, which kernels of the house do not use", place);
    if (baseOffset != 0 || start / 128 % 8 != 0) {
      fault("an operand that does not begin at a multiple of 1024 bytes, or within its first row", place);
    }
    if (groupBytes % 1024 != 0 || groupBytes == 0) {
      fault("an operand whose groups of eight rows are " + std::to_string(groupBytes) + " bytes apart", place);
    }
  }
  /** Where eight values lie that begin at a multiple of 8: of a row along k, or of a k along the rows. */
  uint32_t chunk(bool isAcross, int row, int k) const {
    const uint32_t at = isAcross ? start + row / 64 * panelBytes + k / 8 * groupBytes + k % 8 * 128 + row % 64 * 2
                                 : start + row / 8 * groupBytes + row % 8 * 128 + k * 2;
    return at ^ (at / 128 % 8) << 4;
  }
};

constexpr int DEPTH = 16;

/** Calls `f` with the first row, the first k and the place of each eight values of an operand. */
template <typename F>
void forChunks(uint64 bits, bool isAcross, int rows, F f) {
  const Descriptor descriptor(bits);
  for (int row = 0; row < rows; row += isAcross ? 8 : 1) {
    for (int k = 0; k < DEPTH; k += isAcross ? 1 : 8) f(row, k, descriptor.chunk(isAcross, row, k));
  }
}

void checkOperand(uint64 bits, bool isAcross, int rows, Mark when, const void* place) {
  Descriptor(bits).check(place);
  forChunks(bits, isAcross, rows, [&](int, int, uint32_t at) {
    if (at + 16 > sharedSize()) fault("an operand that does not lie in shared memory", place);
    productReads(at, 16, when, place);
  });
}

std::vector<Factors> load(uint64 bits, bool isAcross, int rows) {
  std::vector<float> values(static_cast<size_t>(rows) * DEPTH);
  forChunks(bits, isAcross, rows, [&](int row, int k, uint32_t at) {
    bf16 chunk[8];
    std::memcpy(chunk, sharedBytes() + at, sizeof chunk);
    for (int i = 0; i < 8; i++) values[isAcross ? (row + i) * DEPTH + k : row * DEPTH + k + i] = toFloat(chunk[i]);
  });
  std::vector<Factors> factors(rows);
  for (int row = 0; row < rows; row++) factors[row] = Factors(&values[row * DEPTH]);
  return factors;
}

std::vector<Factors> loadFragments(const std::vector<FragmentA>& fragments) {
  float values[64][DEPTH];
  for (int thread = 0; thread < WARPGROUP; thread++) {
    for (int word = 0; word < 4; word++) {
      const int row = thread / 32 * 16 + thread % 32 / 4 + word % 2 * 8, k = thread % 4 * 2 + word / 2 * 8;
      for (int half = 0; half < 2; half++) {
        values[row][k + half] = toFloat(bf16{static_cast<uint16>(fragments[thread].r[word] >> 16 * half)});
      }
    }
  }
  return {values, values + 64};
}

void compute(const Product& product) {
  const ProductOperands& operands = product.operands;
  Sums& sums = *product.sums;
  const auto left = product.fragments.empty() ? load(operands.a, operands.isAcrossLeft, 64) : loadFragments(product.fragments);
  const auto right = load(operands.b, operands.isAcrossRight, sums.columns);
  for (int m = 0; m < 64; m++) {
    for (int n = 0; n < sums.columns; n++) {
      float& sum = sums.values[static_cast<size_t>(m) * sums.columns + n];
      sum = sumOf16(left[m], right[n], product.accumulate ? sum : 0, settings.arithmetic);
    }
  }
  statistics.products += static_cast<uint64_t>(64 / 16 * sums.columns / 8);
}

/** Which row and column a thread's sum is of. */
size_t indexOf(const Sums& sums, int thread, int i) {
  const int row = thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8, column = i / 4 * 8 + thread % 4 * 2 + i % 2;
  return static_cast<size_t>(row) * sums.columns + column;
}

/** The sums that a product adds to, which no thread may touch from now on. */
Sums* take(Warpgroup& group, int columns, bool accumulate) {
  for (Sums& each : group.underWay) {
    if (each.at[0] != group.sums[0]) continue;
    if (each.columns != columns) fault("products of unequal shapes with the same sums, and none was waited for");
    if (std::find(each.isDelivered, each.isDelivered + WARPGROUP, true) == each.isDelivered + WARPGROUP) return &each;
    fault("threads of a warpgroup do not agree on what they have waited for");
  }
  Sums& sums = group.underWay.emplace_back();
  sums.columns = columns;
  sums.values.resize(static_cast<size_t>(64) * columns);
  for (int thread = 0; thread < WARPGROUP; thread++) {
    sums.at[thread] = group.sums[thread];
    for (int i = 0; i < columns / 2; i++) {
      if (accumulate) sums.values[indexOf(sums, thread, i)] = sums.at[thread][i];
    }
    std::memset(sums.at[thread], 0xff, columns / 2 * sizeof(float));
  }
  return &sums;
}

}  // namespace

void beginWarpgroups(int threads) {
  warpgroups.clear();
  warpgroups.resize(threads / WARPGROUP);
}

uint64 operandAt(const void* tile, int panelBytes) {
  const void* place = __builtin_return_address(0);
  const auto offset = static_cast<uint64>(static_cast<const unsigned char*>(tile) - sharedBytes());
  if (offset >= sharedSize()) fault("an operand that does not lie in shared memory", place);
  align(tile, 16, place);
  return (offset & 0x3ffff) >> 4 | static_cast<uint64>(panelBytes >> 4) << 16 | static_cast<uint64>(1024 >> 4) << 32 | 1ull << 62;
}

void beginProducts() { own().isFenced[threadOfGroup()] = true; }

void multiplyTiles(float* sums, int columns, const ProductOperands& operands, bool accumulate) {
  const void* place = __builtin_return_address(0);
  Warpgroup& group = own();
  const int thread = threadOfGroup();
  if (!group.isFenced[thread]) fault("a product whose group was not begun: beginProducts is missing", place);
  group.sums[thread] = sums;
  group.operands[thread] = operands;
  group.accumulate[thread] = accumulate;
  meetAsWarpgroup(group.meeting, place, [&] {
    Product product = {operands, {}, {}, accumulate, nullptr, group.groups};
    for (int i = 0; i < WARPGROUP; i++) {
      const ProductOperands& other = group.operands[i];
      if (other.a != operands.a || other.b != operands.b || group.accumulate[i] != accumulate) {
        fault("threads of a warpgroup multiply different operands", place);
      }
      product.fragmentsAt[i] = other.fragment;
      if (other.fragment) product.fragments.push_back(*other.fragment);
    }
    if (group.isNewGroup) beginOfProducts();
    group.isNewGroup = false;
    const Mark when = {static_cast<uint16_t>(ofWarpgroup(now().thread / WARPGROUP)), static_cast<Clock>(group.groups + 1)};
    if (!operands.fragment) checkOperand(operands.a, operands.isAcrossLeft, 64, when, place);
    checkOperand(operands.b, operands.isAcrossRight, columns, when, place);
    product.sums = take(group, columns, accumulate);
    product.sums->lastGroup = group.groups;
    group.products.push_back(std::move(product));
  });
}

void commitProducts() {
  Warpgroup& group = own();
  meetAsWarpgroup(group.meeting, __builtin_return_address(0), [&] {
    group.groups++;
    group.isNewGroup = true;
    std::fill_n(group.isFenced, WARPGROUP, false);
  });
}

void waitForProducts(int underWay) {
  Warpgroup& group = own();
  const int thread = threadOfGroup();
  const uint32_t done = group.groups > static_cast<uint32_t>(underWay) ? group.groups - underWay : 0;
  for (; !group.products.empty() && group.products.front().group < done; group.products.pop_front()) compute(group.products.front());
  for (auto sums = group.underWay.begin(); sums != group.underWay.end();) {
    if (sums->lastGroup < done && !sums->isDelivered[thread]) {
      for (int i = 0; i < sums->columns / 2; i++) sums->at[thread][i] = sums->values[indexOf(*sums, thread, i)];
      sums->isDelivered[thread] = true;
    }
    const bool isOver = std::all_of(sums->isDelivered, sums->isDelivered + WARPGROUP, [](bool is) { return is; });
    sums = isOver ? group.underWay.erase(sums) : std::next(sums);
  }
  group.waited[thread] = done;
  learn(ofWarpgroup(now().thread / WARPGROUP), static_cast<Clock>(done));
}

void lookAtRegisters(uintptr_t address, size_t bytes, bool isWrite, const void* place) {
  const size_t number = now().thread / WARPGROUP;
  if (number >= warpgroups.size()) return;
  const Warpgroup& group = warpgroups[number];
  const int thread = threadOfGroup();
  const auto touches = [&](const void* begin, size_t size) {
    const auto first = reinterpret_cast<uintptr_t>(begin);
    return address < first + size && first < address + bytes;
  };
  for (const Sums& sums : group.underWay) {
    if (!sums.isDelivered[thread] && touches(sums.at[thread], sums.columns / 2 * sizeof(float))) {
      fault(std::string(isWrite ? "writes" : "reads") + " sums of a product that was not waited for", place);
    }
  }
  if (!isWrite) return;
  for (const Product& product : group.products) {
    if (product.group >= group.waited[thread] && product.fragmentsAt[thread] && touches(product.fragmentsAt[thread], sizeof(FragmentA))) {
      fault("writes a fragment of a product that was not waited for", place);
    }
  }
}

void checkProducts() {
  const size_t number = now().thread / WARPGROUP;
  if (number < warpgroups.size() && warpgroups[number].waited[threadOfGroup()] < warpgroups[number].groups) {
    fault("ends while its products are under way: waitForProducts is missing");
  }
}

}  // namespace emulator
