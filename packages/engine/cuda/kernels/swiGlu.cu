/**
 * The hidden units of a gated feed-forward from their preactivations: hidden = min(silu(gate), L) · clamp(up, ±L), and the way back.
 * A limit L of 0 is none. Shapes: preactivations [rows, 2·units], the gate's first; hidden [rows, units]. A thread has a pack of units.
 * With floats it has the bits of `native`.
 */
#include "device.h"

constexpr int THREADS = 256;

/** Where the thread's units lie. */
struct Place {
  uint64 gate, hidden;
  int at;
  bool isThere;
};

template <typename T>
DEVICE Place placeOf(int rows, int units) {
  const int packs = (units + Pack<T>::SIZE - 1) / Pack<T>::SIZE;
  const uint64 row = globalIndex() / packs;
  return {row * 2 * units, row * units, static_cast<int>(globalIndex() % packs) * Pack<T>::SIZE, row < static_cast<uint64>(rows)};
}

// (The limit comes first, so that NaN comes out.)
DEVICE float atMost(float limit, float x) { return limit < x ? limit : x; }
DEVICE float within(float limit, float x) {
  const float most = atMost(limit, x);
  return -limit > most ? -limit : most;
}

template <typename T>
DEVICE void forward(const T* preactivations, T* hidden, int rows, int units, float limit) {
  const Place place = placeOf<T>(rows, units);
  if (!place.isThere) return;
  const bool isPacked = units % Pack<T>::SIZE == 0;
  float gate[Pack<T>::SIZE], up[Pack<T>::SIZE];
  loadPack(gate, preactivations + place.gate, place.at, units, isPacked);
  loadPack(up, preactivations + place.gate + units, place.at, units, isPacked);
  UNROLL
  for (int i = 0; i < Pack<T>::SIZE; i++) {
    const float value = gate[i] * sigmoid(gate[i]);
    gate[i] = limit > 0 ? atMost(limit, value) * within(limit, up[i]) : value * up[i];
  }
  storePack(hidden + place.hidden, gate, place.at, units, isPacked);
}

/**
 * The gradients of the preactivations, which may take their place, and the hidden units once more, which may take the place of their
 * gradient: d silu(g) / dg = σ(g)·(1 + g·(1 − σ(g))). Beyond the limit there is no gradient.
 */
template <typename T>
DEVICE void backward(const T* preactivations, const T* dHidden, T* dPreactivations, T* hidden, int rows, int units, float limit) {
  const Place place = placeOf<T>(rows, units);
  if (!place.isThere) return;
  const bool isPacked = units % Pack<T>::SIZE == 0;
  float gate[Pack<T>::SIZE], up[Pack<T>::SIZE], gradient[Pack<T>::SIZE];
  loadPack(gate, preactivations + place.gate, place.at, units, isPacked);
  loadPack(up, preactivations + place.gate + units, place.at, units, isPacked);
  loadPack(gradient, dHidden + place.hidden, place.at, units, isPacked);
  UNROLL
  for (int i = 0; i < Pack<T>::SIZE; i++) {
    const float sigma = sigmoid(gate[i]), value = gate[i] * sigma;
    const float limitedUp = limit > 0 ? within(limit, up[i]) : up[i], limitedValue = limit > 0 ? atMost(limit, value) : value;
    const float dGate = gradient[i] * limitedUp * (sigma * __fmaf_rn(gate[i], 1.0f - sigma, 1.0f));
    const float dUp = gradient[i] * limitedValue;
    const bool isBeyond = limit > 0 && (up[i] > limit || up[i] < -limit);
    gradient[i] = limitedValue * limitedUp;
    gate[i] = limit > 0 && value > limit ? 0.0f : dGate;
    up[i] = isBeyond ? 0.0f : dUp;
  }
  storePack(dPreactivations + place.gate, gate, place.at, units, isPacked);
  storePack(dPreactivations + place.gate + units, up, place.at, units, isPacked);
  storePack(hidden + place.hidden, gradient, place.at, units, isPacked);
}

KERNEL(swiGluBf16, THREADS, 4, const bf16* preactivations, bf16* hidden, int rows, int units, float limit) {
  forward(preactivations, hidden, rows, units, limit);
}
KERNEL(swiGluFloat, THREADS, 4, const float* preactivations, float* hidden, int rows, int units, float limit) {
  forward(preactivations, hidden, rows, units, limit);
}
KERNEL(swiGluBackwardBf16, THREADS, 4, const bf16* preactivations, const bf16* dHidden, bf16* dPreactivations, bf16* hidden, int rows,
       int units, float limit) {
  backward(preactivations, dHidden, dPreactivations, hidden, rows, units, limit);
}
KERNEL(swiGluBackwardFloat, THREADS, 4, const float* preactivations, const float* dHidden, float* dPreactivations, float* hidden,
       int rows, int units, float limit) {
  backward(preactivations, dHidden, dPreactivations, hidden, rows, units, limit);
}
