/** What `../hopper.h` declares, for the emulator. */
#pragma once

#undef IS_HOPPER
#define IS_HOPPER true
#define TENSOR_MAP const TensorMap

namespace emulator {

// barrier.cc
EMULATOR void initializeBarrier(Barrier* barrier, int arrivals);
EMULATOR void publishBarriers();
EMULATOR void arriveAt(Barrier* barrier, uint32 bytes);
EMULATOR void waitForBarrier(Barrier* barrier, int parity);
EMULATOR void meetThreads(int number, int threads, bool waits);
EMULATOR void changeRegisters(int registers, bool isRaised);

// copyEngine.cc
EMULATOR void beginTile(void* to, const TensorMap* map, int column, int row, int matrix, Barrier* barrier);
EMULATOR void beginStore(const TensorMap* map, const void* from, int column, int row, int matrix);
EMULATOR void commitStores();
EMULATOR void waitForStores(int underWay);
EMULATOR void publishWrites();

// warpgroup.cc
/** The left operand is that of a fragment, where there is one. */
struct ProductOperands {
  const FragmentA* fragment;
  uint64 a, b;
  bool isAcrossLeft, isAcrossRight;
};
EMULATOR void multiplyTiles(float* sums, int columns, const ProductOperands& operands, bool accumulate);
EMULATOR void beginProducts();
EMULATOR void commitProducts();
EMULATOR void waitForProducts(int underWay);
EMULATOR uint64 operandAt(const void* tile, int panelBytes);

}  // namespace emulator

DEVICE void initialize(Barrier& barrier, int arrivals) { emulator::initializeBarrier(&barrier, arrivals); }
DEVICE void publishBarriers() { emulator::publishBarriers(); }
DEVICE void arrive(Barrier& barrier) { emulator::arriveAt(&barrier, 0); }
DEVICE void expectBytes(Barrier& barrier, uint32 bytes) { emulator::arriveAt(&barrier, bytes); }
DEVICE void waitFor(Barrier& barrier, int parity) { emulator::waitForBarrier(&barrier, parity); }
DEVICE void syncThreads(int number, int threads) { emulator::meetThreads(number, threads, true); }
DEVICE void arriveThreads(int number, int threads) { emulator::meetThreads(number, threads, false); }
template <int registers>
DEVICE void raiseRegisters() {
  emulator::changeRegisters(registers, true);
}
template <int registers>
DEVICE void lowerRegisters() {
  emulator::changeRegisters(registers, false);
}

DEVICE void beginTile(void* to, const TensorMap& map, int column, int row, int matrix, Barrier& barrier) {
  emulator::beginTile(to, &map, column, row, matrix, &barrier);
}
DEVICE void beginStore(const TensorMap& map, const void* from, int column, int row, int matrix) {
  emulator::beginStore(&map, from, column, row, matrix);
}
DEVICE void commitStores() { emulator::commitStores(); }
template <int underWay>
DEVICE void waitForStores() {
  emulator::waitForStores(underWay);
}
DEVICE void publishWrites() { emulator::publishWrites(); }

DEVICE void beginProducts() { emulator::beginProducts(); }
DEVICE void commitProducts() { emulator::commitProducts(); }
template <int underWay>
DEVICE void waitForProducts() {
  emulator::waitForProducts(underWay);
}
template <int N>
DEVICE void holdSums(float (&)[N]) {}
DEVICE uint64 operandAt(const void* tile, int panelBytes) { return emulator::operandAt(tile, panelBytes); }
template <int LEFT, int RIGHT, int N>
DEVICE void multiplyTiles(float (&sums)[N], uint64 a, uint64 b, bool accumulate) {
  emulator::multiplyTiles(sums, 2 * N, {nullptr, a, b, LEFT == ACROSS, RIGHT == ACROSS}, accumulate);
}
template <int RIGHT, int N>
DEVICE void multiplyFragment(float (&sums)[N], const FragmentA& a, uint64 b, bool accumulate) {
  emulator::multiplyTiles(sums, 2 * N, {&a, 0, b, false, RIGHT == ACROSS}, accumulate);
}
