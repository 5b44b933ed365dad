/** Gated causal attention of heads of up to 256 channels, and its gradients. */
#include "attentionBackward.h"
#include "attentionForward.h"

KERNEL(attention256, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<256>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionKeys256, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<256>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries256, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<256>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
