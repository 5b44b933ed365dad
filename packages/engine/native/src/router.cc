// The router of a mixture of experts, from logits on: softmax, choice of the experts, balance loss and z-loss.
// N tokens, E experts, K experts a token.

#include <vector>

#include "addon.h"
#include "parallel.h"
#include "softmax.h"

namespace sluice {

// Tokens whose shares of the auxiliary loss are summed together before those sums are added in order.
constexpr size_t kRowsPerPart = 64;

/// The experts of the `topK` largest logits, largest first, of equal ones the lower index first.
static void chooseExperts(const float* logits, size_t experts, size_t topK, int32_t* chosen) {
  for (size_t k = 0; k < topK; ++k) chosen[k] = -1;
  for (size_t e = 0; e < experts; ++e) {
    // Insertion from the back. Comparisons with NaN are false, so every slot is filled whatever the values.
    size_t slot = topK;
    while (slot > 0 && (chosen[slot - 1] < 0 || logits[e] > logits[chosen[slot - 1]])) --slot;
    if (slot == topK) continue;
    for (size_t k = topK - 1; k > slot; --k) chosen[k] = chosen[k - 1];
    chosen[slot] = static_cast<int32_t>(e);
  }
}

static float chosenSum(const float* probability, const int32_t* chosen, size_t topK) {
  float sum = 0;
  for (size_t k = 0; k < topK; ++k) sum += probability[chosen[k]];
  return sum;
}

/// router(logits[N·E], loads[E], weights[N·K], indices[N·K], counts[E], N, E, K, normalize, balance, z): returns
/// Σ_n (balance · Σ_e loads_e · p_ne + z · logsumexp_n²).
static double router(const Arguments& args) {
  const size_t rows = args.size(5), experts = args.size(6), topK = args.size(7);
  const bool normalize = args.boolean(8);
  const double balance = args.number(9), z = args.number(10);
  const float *logits = args.floats(0, rows * experts), *loads = args.floats(1, experts);
  float* weights = args.floats(2, rows * topK);
  int32_t *indices = args.integers(3, rows * topK), *counts = args.integers(4, experts);
  if (topK > experts) throw std::runtime_error("more experts are to be chosen than there are");

  const size_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  std::vector<double> auxiliary(parts, 0.0);
  parallelFor(parts, 1, [&](size_t begin, size_t end) {
    std::vector<float> probability(experts + kWidth);
    for (size_t row = begin * kRowsPerPart; row < std::min(rows, end * kRowsPerPart); ++row) {
      const float logSumExp = softmaxRow(logits + row * experts, probability.data(), experts);
      int32_t* chosen = indices + row * topK;
      chooseExperts(logits + row * experts, experts, topK, chosen);
      const float scale = normalize ? 1.0f / chosenSum(probability.data(), chosen, topK) : 1.0f;
      for (size_t k = 0; k < topK; ++k) weights[row * topK + k] = probability[chosen[k]] * scale;
      double share = 0;
      for (size_t e = 0; e < experts; ++e) share += static_cast<double>(loads[e]) * probability[e];
      auxiliary[row / kRowsPerPart] += balance * share + z * logSumExp * logSumExp;
    }
  });
  std::fill(counts, counts + experts, 0);
  for (size_t slot = 0; slot < rows * topK; ++slot) ++counts[indices[slot]];
  double total = 0;
  for (const double part : auxiliary) total += part;
  return total;
}

/// routerBackward(logits, loads, indices, dWeights[N·K], dLogits[N·E], N, E, K, normalize, balance, z), where balance and
/// z are already multiplied by the gradient of the auxiliary loss. dLogits may be logits.
static double routerBackward(const Arguments& args) {
  const size_t rows = args.size(5), experts = args.size(6), topK = args.size(7);
  const bool normalize = args.boolean(8);
  const float balance = static_cast<float>(args.number(9)), z = static_cast<float>(args.number(10));
  const float *logits = args.floats(0, rows * experts), *loads = args.floats(1, experts);
  const int32_t* indices = args.integers(2, rows * topK);
  const float* dWeights = args.floats(3, rows * topK);
  float* dLogits = args.floats(4, rows * experts);
  for (size_t slot = 0; slot < rows * topK; ++slot) {
    if (indices[slot] < 0 || static_cast<size_t>(indices[slot]) >= experts) {
      throw std::runtime_error("expert " + std::to_string(indices[slot]) + " is not below " + std::to_string(experts));
    }
  }

  parallelFor(rows, kRowsPerPart, [&](size_t begin, size_t end) {
    std::vector<float> probability(experts + kWidth), dProbability(experts);
    for (size_t row = begin; row < end; ++row) {
      const float logSumExp = softmaxRow(logits + row * experts, probability.data(), experts);
      for (size_t e = 0; e < experts; ++e) dProbability[e] = balance * loads[e];
      const int32_t* chosen = indices + row * topK;
      const float* dWeight = dWeights + row * topK;
      // w_k = p_k / S with S = Σ_j p_j, so that dp_k = (dw_k − Σ_j dw_j w_j) / S.
      const float scale = normalize ? 1.0f / chosenSum(probability.data(), chosen, topK) : 1.0f;
      float pull = 0;
      for (size_t k = 0; normalize && k < topK; ++k) pull += dWeight[k] * probability[chosen[k]] * scale;
      for (size_t k = 0; k < topK; ++k) dProbability[chosen[k]] += (dWeight[k] - pull) * scale;

      float mean = 0;
      for (size_t e = 0; e < experts; ++e) mean += probability[e] * dProbability[e];
      const float push = 2.0f * z * logSumExp;
      float* out = dLogits + row * experts;
      for (size_t e = 0; e < experts; ++e) out[e] = probability[e] * (dProbability[e] - mean + push);
    }
  });
  return 0;
}

SLUICE_EXPORT(router, router);
SLUICE_EXPORT(routerBackward, routerBackward);

}  // namespace sluice
