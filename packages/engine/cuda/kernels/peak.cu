/** What a card's tensor cores do at most: products of values that are in registers already, by every warp, in chains of their own. */
#include "device.h"

/** Sums of a warp that do not wait for each other. */
constexpr int CHAINS = 8;
constexpr int THREADS = 256;

/** Each warp adds `steps` products of 16 × 16 by 16 × 8 to each of its sums. What comes out has no meaning but that it is needed. */
KERNEL(peakProducts, THREADS, 2, float* sums, int steps) {
  FragmentA a;
  FragmentB b[CHAINS];
  FragmentC c[CHAINS] = {};
  // Numbers between 1 and 2, of either sign: what a product costs depends on its bits.
  const uint32 seed = static_cast<uint32>(globalIndex()) * 2654435761u;
  const auto pair = [&](uint32 i) { return ((seed ^ i * 40503u) & 0x807f807fu) | 0x3f803f80u; };
  UNROLL
  for (int i = 0; i < 4; i++) a.r[i] = pair(i);
  UNROLL
  for (int chain = 0; chain < CHAINS; chain++) {
    b[chain].r[0] = pair(2 * chain + 5);
    b[chain].r[1] = pair(2 * chain + 6);
  }
  NO_UNROLL
  for (int step = 0; step < steps; step++) {
    UNROLL
    for (int chain = 0; chain < CHAINS; chain++) c[chain] = mma(c[chain], a, b[chain]);
  }
  float sum = 0;
  UNROLL
  for (int chain = 0; chain < CHAINS; chain++) {
    UNROLL
    for (int i = 0; i < 4; i++) sum += c[chain].v[i];
  }
  sums[globalIndex()] = sum;
}
