/** Gated causal attention whose scores are capped (Gemma 2, arXiv 2408.00118 §2) on Hopper, forward. */
#include "attentionForwardHopper.h"

KERNEL(attentionCappedHopper64, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  AttentionHopper<64, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionCappedHopper128, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  AttentionHopper<128, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionCappedHopper256, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  AttentionHopper<256, true>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
