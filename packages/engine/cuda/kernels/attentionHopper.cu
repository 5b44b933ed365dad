/** Gated causal attention of heads of up to 64, 128 or 256 channels on Hopper, forward. */
#include "attentionForwardHopper.h"

KERNEL(attentionHopper64, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  AttentionHopper<64>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionHopper128, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  AttentionHopper<128>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
KERNEL(attentionHopper256, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, const bf16* gate, bf16* y, float* logSumExp,
       const int* ranges, int rows, Heads heads) {
  AttentionHopper<256>::run(q, k, v, gate, y, logSumExp, ranges, rows, heads);
}
