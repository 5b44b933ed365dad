/**
 * The gradients of gated causal attention of heads of up to 32, 64 or 128 channels, and what is done first, of which a
 * warp has a row of a head. dOut = dy ⊙ σ(gate), which may take dy's place; dGate = dy ⊙ y ⊙ (1 − σ(gate)), added up over the channels
 * where a head has one logit, which may take the gate's place; delta [H, N] = Σ dy·y.
 */
#include "attentionBackward.h"

constexpr int GATE_THREADS = 256;

template <typename T>
DEVICE void throughGate(const T* y, const T* gate, const T* dy, T* dOut, T* dGate, float* delta, int rows, int heads, int gates,
                        int headDim) {
  const int lane = threadIdx.x % 32;
  const uint64 pair = static_cast<uint64>(blockIdx.x) * (GATE_THREADS / 32) + threadIdx.x / 32;
  if (pair >= static_cast<uint64>(rows) * heads) return;
  const float headOpen = gates == 1 ? sigmoid(toFloat(gate[pair])) : 1.0f;
  float sum = 0;
  for (int channel = lane; channel < headDim; channel += 32) {
    const uint64 at = pair * headDim + channel;
    const float gradient = toFloat(dy[at]), product = gradient * toFloat(y[at]);
    const float open = gates > 1 ? sigmoid(toFloat(gate[at])) : headOpen;
    sum += product;
    dOut[at] = fromFloat<T>(gradient * open);
    if (gates > 1) dGate[at] = fromFloat<T>(product * (1.0f - open));
  }
  sum = sumOfWarp(sum);
  // All lanes have read the logit of a head, whose place its gradient may take.
  __syncwarp();
  if (lane != 0) return;
  delta[pair % heads * rows + pair / heads] = sum;
  if (gates == 1) dGate[pair] = fromFloat<T>(sum * (1.0f - headOpen));
}

KERNEL(attentionGateBf16, GATE_THREADS, 4, const bf16* y, const bf16* gate, const bf16* dy, bf16* dOut, bf16* dGate, float* delta, int rows,
       int heads, int gates, int headDim) {
  throughGate(y, gate, dy, dOut, dGate, delta, rows, heads, gates, headDim);
}
KERNEL(attentionGateFloat, GATE_THREADS, 4, const float* y, const float* gate, const float* dy, float* dOut, float* dGate, float* delta, int rows,
       int heads, int gates, int headDim) {
  throughGate(y, gate, dy, dOut, dGate, delta, rows, heads, gates, headDim);
}

KERNEL(attentionKeys32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<32>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<32>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeys64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<64>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<64>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeys128, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<128>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries128, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<128>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
