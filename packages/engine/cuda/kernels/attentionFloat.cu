/** Gated causal attention of heads of up to 64, 128 or 256 channels in single precision, and its gradients. */
#include "attentionFloat.h"

KERNEL(attention64Float, ATTENTION_THREADS, 3, const float* q, const float* k, const float* v, const float* gate, float* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  FloatAttention<64>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionKeys64Float, ATTENTION_THREADS, 3, const float* q, const float* k, const float* v, const float* dOut, const float* logSumExp,
       const float* delta, float* dk, float* dv, const int* ranges, int rows, Heads heads) {
  FloatAttentionKeys<64>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries64Float, ATTENTION_THREADS, 3, const float* q, const float* k, const float* v, const float* dOut,
       const float* logSumExp, const float* delta, float* dq, const int* ranges, int rows, Heads heads) {
  FloatAttentionQueries<64>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}

KERNEL(attention128Float, ATTENTION_THREADS, 2, const float* q, const float* k, const float* v, const float* gate, float* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  FloatAttention<128>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionKeys128Float, ATTENTION_THREADS, 2, const float* q, const float* k, const float* v, const float* dOut, const float* logSumExp,
       const float* delta, float* dk, float* dv, const int* ranges, int rows, Heads heads) {
  FloatAttentionKeys<128>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries128Float, ATTENTION_THREADS, 2, const float* q, const float* k, const float* v, const float* dOut,
       const float* logSumExp, const float* delta, float* dq, const int* ranges, int rows, Heads heads) {
  FloatAttentionQueries<128>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}

KERNEL(attention256Float, ATTENTION_THREADS, 1, const float* q, const float* k, const float* v, const float* gate, float* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  FloatAttention<256>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionKeys256Float, ATTENTION_THREADS, 1, const float* q, const float* k, const float* v, const float* dOut, const float* logSumExp,
       const float* delta, float* dk, float* dv, const int* ranges, int rows, Heads heads) {
  FloatAttentionKeys<256>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueries256Float, ATTENTION_THREADS, 1, const float* q, const float* k, const float* v, const float* dOut,
       const float* logSumExp, const float* delta, float* dq, const int* ranges, int rows, Heads heads) {
  FloatAttentionQueries<256>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
