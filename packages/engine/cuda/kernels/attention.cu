/** Gated causal attention of heads of up to 32, 64 or 128 channels, forward. */
#include "attentionForward.h"

KERNEL(attention32, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<32>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attention64, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<64>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attention128, ATTENTION_THREADS, 2, const bf16* q, const bf16* k, const bf16* v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  Attention<128>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
