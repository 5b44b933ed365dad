/** Gated causal attention whose scores are capped (Gemma 2, arXiv 2408.00118 §2), forward. */
#include "attentionForward.h"

KERNEL(attentionCapped32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<32, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionCapped64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<64, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionCapped128, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<128, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionCapped256, ATTENTION_THREADS, 1, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<256, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
