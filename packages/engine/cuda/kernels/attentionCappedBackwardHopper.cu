/** The gradients of gated causal attention whose scores are capped, on Hopper. */
#include "attentionBackwardHopper.h"

KERNEL(attentionKeysCappedHopper64, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeysHopper<64, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCappedHopper64, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueriesHopper<64, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysCappedHopper128, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeysHopper<128, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCappedHopper128, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueriesHopper<128, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
KERNEL(attentionKeysCappedHopper256, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dk, bf16* dv, const int* ranges, int rows, Heads heads) {
  AttentionKeysHopper<256, true>::run(q, k, v, dOut, logSumExp, delta, dk, dv, ranges, rows, heads);
}
KERNEL(attentionQueriesCappedHopper256, HOPPER_THREADS, 1, TENSOR_MAP q, TENSOR_MAP k, TENSOR_MAP v, TENSOR_MAP dOut, const float* logSumExp,
       const float* delta, bf16* dq, const int* ranges, int rows, Heads heads) {
  AttentionQueriesHopper<256, true>::run(q, k, v, dOut, logSumExp, delta, dq, ranges, rows, heads);
}
