/** The gradients of gated causal attention whose scores are capped. */
#include "attentionBackward.h"

KERNEL(attentionKeysCapped32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<32, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCapped32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<32, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysCapped64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<64, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCapped64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<64, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysCapped128, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<128, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCapped128, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<128, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysCapped256, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeys<256, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCapped256, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueries<256, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
