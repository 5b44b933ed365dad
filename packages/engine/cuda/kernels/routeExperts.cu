/**
 * The router of a mixture of experts from its logits on, in single precision: what `native/src/router.cc` computes, in the same order, so
 * that all but logits that are no numbers have its bits. Shapes: N tokens, E experts, K of them a token; logits, dLogits [N, E];
 * loads, bias [E]; weights, dWeights, indices [N, K]; auxiliary [N]. A warp has a token.
 */
#include "device.h"

constexpr int THREADS = 128, WARPS = THREADS / 32;
/** Tokens whose shares of the auxiliary loss are added up together, before these sums are. */
constexpr int ROWS_OF_PART = 64;
/** Added to sums of sigmoids, which may all be zero. */
constexpr float TINY = 1e-20f;

struct Router {
  int tokens, experts, topK, groups, chosenGroups;
  /** Whether the weights of the chosen are divided by their sum; whether scores are sigmoids, not a softmax. */
  int isNormalized, isSigmoid;
  /** Of the weights. */
  float factor;
};

/** What multiplies the balance loss, and the square of the logarithm of a token's sum; and the tokens that it is the mean of. */
struct Coefficients {
  double balance, z, tokens;
};

DEVICE int tokenOfWarp() { return static_cast<int>(blockIdx.x * WARPS + threadIdx.x / 32); }

/** The warp's own shared memory: three times E words, and one for each group. */
DEVICE float* memoryOfWarp(Router router) {
  return &sharedMemory<float>() + threadIdx.x / 32 * (3 * router.experts + router.groups);
}

/** The softmax of a row, to `score`; element i goes to sum i mod 16, and these are joined by halves. Returns log Σ e^logit. */
DEVICE float softmaxOf(const float* logits, float* score, int experts) {
  const int lane = threadIdx.x % 32;
  float most = -__uint_as_float(0x7f800000u);
  for (int e = lane; e < experts; e += 32) most = most > logits[e] ? most : logits[e];
  UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, most, distance);
    most = most > other ? most : other;
  }
  for (int e = lane; e < experts; e += 32) score[e] = exponential(logits[e] - most);
  __syncwarp();
  float total = 0;
  for (int e = lane % 16; e < experts; e += 16) total += score[e];
  UNROLL
  for (int distance = 8; distance > 0; distance /= 2) total += __shfl_xor_sync(0xffffffffu, total, distance);
  __syncwarp();
  for (int e = lane; e < experts; e += 32) score[e] = __fdiv_rn(score[e], total);
  __syncwarp();
  const double ofTotal = total > 0 ? logarithm(static_cast<double>(total)) : static_cast<double>(total);
  return static_cast<float>(static_cast<double>(most) + ofTotal);
}

/** The sigmoids of a row, to `score`. Returns their sum, from first to last. */
DEVICE float sigmoidsOf(const float* logits, float* score, int experts) {
  for (int e = static_cast<int>(threadIdx.x % 32); e < experts; e += 32) score[e] = sigmoid(logits[e]);
  __syncwarp();
  float sum = TINY;
  for (int e = 0; e < experts; e++) sum += score[e];
  return sum;
}

/** A number whose order is that of the keys, below all others where a key is no number; 0 is left for what was taken. */
DEVICE uint32 rankOf(float key) {
  const uint32 bits = __float_as_uint(key + 0.0f);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 1;
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/** Where the largest rank is, of equal ones the first, and takes it: 0 stands there afterwards. */
DEVICE int takeLargest(uint32* ranks, int count) {
  const int lane = threadIdx.x % 32;
  uint32 most = 0;
  int best = count;
  for (int i = lane; i < count; i += 32) {
    if (ranks[i] > most) {
      most = ranks[i];
      best = i;
    }
  }
  UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    const uint32 other = __shfl_xor_sync(0xffffffffu, most, distance);
    const int place = __shfl_xor_sync(0xffffffffu, best, distance);
    if (other > most || (other == most && place < best)) {
      most = other;
      best = place;
    }
  }
  if (best % 32 == lane) ranks[best] = 0;
  __syncwarp();
  return best;
}

/** Takes the ranks of all experts but those of the best groups, by their two largest keys together. @param ofGroups to work in */
DEVICE void keepBestGroups(const float* keys, uint32* ranks, uint32* ofGroups, Router router) {
  const int lane = threadIdx.x % 32, size = router.experts / router.groups;
  for (int group = lane; group < router.groups; group += 32) {
    const float* own = keys + group * size;
    float first = own[0], second = -__uint_as_float(0x7f800000u);
    for (int i = 1; i < size; i++) {
      const float less = own[i] < first ? own[i] : first;
      second = second > less ? second : less;
      first = first > own[i] ? first : own[i];
    }
    ofGroups[group] = rankOf(size == 1 ? first : first + second);
  }
  __syncwarp();
  for (int chosen = 0; chosen < router.chosenGroups; chosen++) takeLargest(ofGroups, router.groups);
  for (int e = lane; e < router.experts; e += 32) {
    if (ofGroups[e / size] != 0) ranks[e] = 0;
  }
  __syncwarp();
}

/** What the scores of the chosen are multiplied by. */
DEVICE float scaleOf(const float* score, const int* chosen, Router router) {
  if (!router.isNormalized) return 1.0f;
  float sum = router.isSigmoid ? TINY : 0.0f;
  for (int k = 0; k < router.topK; k++) sum += score[chosen[k]];
  return __fdiv_rn(1.0f, sum);
}

/**
 * Chooses by score + bias, or with neither a bias nor groups in the order of the logits, of equal ones the first; weighs by score · factor;
 * auxiliary = balance · Σ_e loads_e · P_e + z · logsumexp², with the shares P of 1.
 */
KERNEL(routeExperts, THREADS, 8, const float* logits, const float* loads, const float* bias, float* weights, int* indices,
       double* auxiliary, Router router, Coefficients coefficients) {
  const int token = tokenOfWarp(), lane = threadIdx.x % 32, experts = router.experts;
  if (token >= router.tokens) return;
  float *score = memoryOfWarp(router), *keys = score + experts;
  uint32* ranks = reinterpret_cast<uint32*>(keys + experts);
  const float* own = logits + static_cast<uint64>(token) * experts;
  const float logSumExp = softmaxOf(own, score, experts);
  const float total = router.isSigmoid ? sigmoidsOf(own, score, experts) : 1.0f;
  const bool isLimited = router.groups > 1;
  for (int e = lane; e < experts; e += 32) {
    const float key = bias ? score[e] + bias[e] : isLimited ? score[e] : own[e];
    keys[e] = key;
    ranks[e] = rankOf(key);
  }
  __syncwarp();
  if (isLimited) keepBestGroups(keys, ranks, ranks + experts, router);
  int* chosen = indices + static_cast<uint64>(token) * router.topK;
  for (int k = 0; k < router.topK; k++) {
    const int expert = takeLargest(ranks, experts);
    if (lane == 0) chosen[k] = expert;
  }
  __syncwarp();
  const float scale = scaleOf(score, chosen, router) * router.factor;
  for (int k = lane; k < router.topK; k += 32) {
    weights[static_cast<uint64>(token) * router.topK + k] = score[chosen[k]] * scale;
  }
  double share = 0;
  for (int e = 0; e < experts; e++) share += static_cast<double>(loads[e]) * score[e];
  if (lane == 0) auxiliary[token] = coefficients.balance * (share / total) + coefficients.z * logSumExp * logSumExp;
}

/** sum = Σ_n auxiliary_n / tokens: parts of 64 from first to last, and then the parts. One block. */
KERNEL(sumAuxiliary, THREADS, 1, const double* auxiliary, double* parts, float* sum, int rows, Coefficients coefficients) {
  const int count = (rows + ROWS_OF_PART - 1) / ROWS_OF_PART;
  for (int part = threadIdx.x; part < count; part += THREADS) {
    const int end = (part + 1) * ROWS_OF_PART < rows ? (part + 1) * ROWS_OF_PART : rows;
    double own = 0;
    for (int row = part * ROWS_OF_PART; row < end; row++) own += auxiliary[row];
    parts[part] = own;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0;
  for (int part = 0; part < count; part++) total += parts[part];
  sum[0] = static_cast<float>(total / coefficients.tokens);
}

/** dLogits from dWeights and the gradient of the auxiliary loss, a single number. */
KERNEL(routeExpertsBackward, THREADS, 8, const float* logits, const float* loads, const int* indices, const float* dWeights,
       const float* dAuxiliary, float* dLogits, Router router, Coefficients coefficients) {
  const int token = tokenOfWarp(), lane = threadIdx.x % 32, experts = router.experts;
  if (token >= router.tokens) return;
  float *probability = memoryOfWarp(router), *sigma = probability + experts, *dScore = sigma + experts;
  const double ofLoss = dAuxiliary[0] / coefficients.tokens;
  const float balance = static_cast<float>(coefficients.balance * ofLoss), z = static_cast<float>(coefficients.z * ofLoss);
  const uint64 row = static_cast<uint64>(token) * experts, slots = static_cast<uint64>(token) * router.topK;
  const float logSumExp = softmaxOf(logits + row, probability, experts);
  const float total = router.isSigmoid ? sigmoidsOf(logits + row, sigma, experts) : 1.0f;
  const float* score = router.isSigmoid ? sigma : probability;
  // Of a softmax, dP = balance · loads; its sum over experts is a part of `mean` below. Of sigmoids P_e = s_e / T, so that
  // ds_e = (dP_e − Σ_j dP_j P_j) / T.
  float meanLoad = 0;
  for (int e = 0; router.isSigmoid && e < experts; e++) meanLoad += __fdiv_rn(loads[e] * score[e], total);
  for (int e = lane; e < experts; e += 32) {
    dScore[e] = balance * (router.isSigmoid ? __fdiv_rn(loads[e] - meanLoad, total) : loads[e]);
  }
  __syncwarp();
  // w_k = f · s_k / S with S = Σ_j s_j, so that ds_k = f · (dw_k − Σ_j dw_j s_j / S) / S.
  const int* chosen = indices + slots;
  const float scale = scaleOf(score, chosen, router);
  float pull = 0;
  for (int k = 0; router.isNormalized && k < router.topK; k++) pull += dWeights[slots + k] * score[chosen[k]] * scale;
  for (int k = lane; k < router.topK; k += 32) dScore[chosen[k]] += (dWeights[slots + k] - pull) * scale * router.factor;
  __syncwarp();
  const float push = 2.0f * z * logSumExp;
  float mean = 0;
  for (int e = 0; !router.isSigmoid && e < experts; e++) mean += score[e] * dScore[e];
  for (int e = lane; e < experts; e += 32) {
    dLogits[row + e] = router.isSigmoid ? dScore[e] * (score[e] * (1.0f - score[e])) + probability[e] * push
                                        : score[e] * (dScore[e] - mean + push);
  }
}
