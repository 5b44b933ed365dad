/** The gradients of gated causal attention of heads of up to 64, 128 or 256 channels on Hopper. */
#include "attentionBackwardHopper.h"

KERNEL(attentionKeysHopper64, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeysHopper<64>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesHopper64, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueriesHopper<64>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysHopper128, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeysHopper<128>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesHopper128, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueriesHopper<128>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysHopper256, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeysHopper<256>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesHopper256, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueriesHopper<256>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
