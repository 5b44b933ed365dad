// The router of a mixture of experts, from logits on: scores, choice of the experts, balance loss and z-loss.
// N tokens, E experts, K experts a token.
//
// Scores s are softmax(logits), or each logit's sigmoid, which need not add up to anything: then P_e = s_e / (Σ s + ε) is an
// expert's share, and ε keeps it finite where all of them are zero. Of a softmax P_e is s_e.

#include <algorithm>
#include <cmath>
#include <vector>

#include "addon.h"
#include "parallel.h"
#include "softmax.h"

namespace sluice {

// Tokens whose shares of the auxiliary loss are summed together before those sums are added in order.
constexpr size_t kRowsPerPart = 64;

/// ε, added to sums of sigmoids (as in DeepSeek-V3).
constexpr float kTiny = 1e-20f;

/// Writes the sigmoids of `count` logits to `score`, which has room for whole vectors. Returns their sum, plus ε.
static float sigmoidRow(const float* logits, float* score, size_t count) {
  float sum = kTiny;
  for (size_t i = 0; i < count; i += kWidth) {
    const size_t lanes = std::min(kWidth, count - i);
    store(score + i, sigmoid(loadUpTo(logits + i, lanes)));
    for (size_t lane = 0; lane < lanes; ++lane) sum += score[i + lane];
  }
  return sum;
}

/// The experts of the `topK` largest keys, largest first, of equal ones the lower index first.
static void chooseExperts(const float* keys, size_t experts, size_t topK, int32_t* chosen) {
  for (size_t k = 0; k < topK; ++k) chosen[k] = -1;
  for (size_t e = 0; e < experts; ++e) {
    // Insertion from the back. Comparisons with NaN are false, so every slot is filled whatever the values.
    size_t slot = topK;
    while (slot > 0 && (chosen[slot - 1] < 0 || keys[e] > keys[chosen[slot - 1]])) --slot;
    if (slot == topK) continue;
    for (size_t k = topK - 1; k > slot; --k) chosen[k] = chosen[k - 1];
    chosen[slot] = static_cast<int32_t>(e);
  }
}

/// Leaves −∞ in place of the keys of all experts but those of the `chosen` best groups, of equal ones the first. A group is as good
/// as its two largest keys together (DeepSeek-V3), or as the one that it has. @param ranks, order [groups]: to work in
static void keepBestGroups(float* keys, size_t experts, size_t groups, size_t chosen, float* ranks, int32_t* order) {
  const size_t size = experts / groups;
  for (size_t group = 0; group < groups; ++group) {
    const float* own = keys + group * size;
    float first = own[0], second = -INFINITY;
    for (size_t i = 1; i < size; ++i) {
      second = std::max(second, std::min(first, own[i]));
      first = std::max(first, own[i]);
    }
    ranks[group] = size == 1 ? first : first + second;
  }
  chooseExperts(ranks, groups, chosen, order);
  for (size_t group = 0; group < groups; ++group) {
    if (std::find(order, order + chosen, static_cast<int32_t>(group)) == order + chosen) {
      std::fill(keys + group * size, keys + (group + 1) * size, -INFINITY);
    }
  }
}

/// What the scores of the chosen are divided by.
static float chosenSum(const float* score, const int32_t* chosen, size_t topK, bool sigmoids) {
  float sum = sigmoids ? kTiny : 0;
  for (size_t k = 0; k < topK; ++k) sum += score[chosen[k]];
  return sum;
}

/// router(logits[N·E], loads[E], weights[N·K], indices[N·K], N, E, K, normalize, balance, z, sigmoids, factor, bias[E] or null,
/// groups, chosen groups): chooses by score + bias, or with neither a bias nor groups in the order of the logits;
/// of several groups of neighbours only the chosen ones' experts can be had. Weighs by score · factor, and returns
/// Σ_n (balance · Σ_e loads_e · P_ne + z · logsumexp_n²).
static double router(const Arguments& args) {
  const size_t rows = args.size(4), experts = args.size(5), topK = args.size(6);
  const bool normalize = args.boolean(7), sigmoids = args.boolean(10);
  const double balance = args.number(8), z = args.number(9);
  const float factor = static_cast<float>(args.number(11));
  const float *logits = args.floats(0, rows * experts), *loads = args.floats(1, experts);
  float* weights = args.floats(2, rows * topK);
  int32_t* indices = args.integers(3, rows * topK);
  const float* bias = args.optionalFloats(12, experts);
  const size_t groups = args.size(13), chosenGroups = args.size(14);
  if (groups == 0 || experts % groups != 0 || chosenGroups > groups) throw std::runtime_error("groups must be equal parts of the experts");
  if (topK > experts / groups * chosenGroups) throw std::runtime_error("more experts are to be chosen than there are");
  const bool limited = groups > 1;

  const size_t parts = (rows + kRowsPerPart - 1) / kRowsPerPart;
  std::vector<double> auxiliary(parts, 0.0);
  parallelFor(parts, 1, [&](size_t begin, size_t end) {
    std::vector<float> score(experts + kWidth), keys(experts), ranks(groups);
    std::vector<int32_t> order(chosenGroups);
    for (size_t row = begin * kRowsPerPart; row < std::min(rows, end * kRowsPerPart); ++row) {
      const float* rowLogits = logits + row * experts;
      const float logSumExp = softmaxRow(rowLogits, score.data(), experts);
      const float total = sigmoids ? sigmoidRow(rowLogits, score.data(), experts) : 1.0f;
      for (size_t e = 0; (bias || limited) && e < experts; ++e) keys[e] = bias ? score[e] + bias[e] : score[e];
      if (limited) keepBestGroups(keys.data(), experts, groups, chosenGroups, ranks.data(), order.data());
      int32_t* chosen = indices + row * topK;
      chooseExperts(bias || limited ? keys.data() : rowLogits, experts, topK, chosen);
      const float scale = (normalize ? 1.0f / chosenSum(score.data(), chosen, topK, sigmoids) : 1.0f) * factor;
      for (size_t k = 0; k < topK; ++k) weights[row * topK + k] = score[chosen[k]] * scale;
      double share = 0;
      for (size_t e = 0; e < experts; ++e) share += static_cast<double>(loads[e]) * score[e];
      auxiliary[row / kRowsPerPart] += balance * (share / total) + z * logSumExp * logSumExp;
    }
  });
  double total = 0;
  for (const double part : auxiliary) total += part;
  return total;
}

/// routerBackward(logits, loads, indices, dWeights[N·K], dLogits[N·E], N, E, K, normalize, balance, z, sigmoids, factor), where
/// balance and z are already multiplied by the gradient of the auxiliary loss. dLogits may be logits.
static double routerBackward(const Arguments& args) {
  const size_t rows = args.size(5), experts = args.size(6), topK = args.size(7);
  const bool normalize = args.boolean(8), sigmoids = args.boolean(11);
  const float balance = static_cast<float>(args.number(9)), z = static_cast<float>(args.number(10));
  const float factor = static_cast<float>(args.number(12));
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
    std::vector<float> probability(experts + kWidth), sigma(sigmoids ? experts + kWidth : 0), dScore(experts);
    for (size_t row = begin; row < end; ++row) {
      const float* rowLogits = logits + row * experts;
      const float logSumExp = softmaxRow(rowLogits, probability.data(), experts);
      const float total = sigmoids ? sigmoidRow(rowLogits, sigma.data(), experts) : 1.0f;
      const float* score = sigmoids ? sigma.data() : probability.data();
      // Of a softmax, dP = balance · loads; its sum over experts is a part of `mean` below. Of sigmoids P_e = s_e / T, so that
      // ds_e = (dP_e − Σ_j dP_j P_j) / T.
      float meanLoad = 0;
      for (size_t e = 0; sigmoids && e < experts; ++e) meanLoad += loads[e] * score[e] / total;
      for (size_t e = 0; e < experts; ++e) dScore[e] = balance * (sigmoids ? (loads[e] - meanLoad) / total : loads[e]);
      const int32_t* chosen = indices + row * topK;
      const float* dWeight = dWeights + row * topK;
      // w_k = f · s_k / S with S = Σ_j s_j, so that ds_k = f · (dw_k − Σ_j dw_j s_j / S) / S.
      const float scale = normalize ? 1.0f / chosenSum(score, chosen, topK, sigmoids) : 1.0f;
      float pull = 0;
      for (size_t k = 0; normalize && k < topK; ++k) pull += dWeight[k] * score[chosen[k]] * scale;
      for (size_t k = 0; k < topK; ++k) dScore[chosen[k]] += (dWeight[k] - pull) * scale * factor;

      const float push = 2.0f * z * logSumExp;
      float* out = dLogits + row * experts;
      if (sigmoids) {
        for (size_t e = 0; e < experts; ++e) out[e] = dScore[e] * (score[e] * (1.0f - score[e])) + probability[e] * push;
        continue;
      }
      float mean = 0;
      for (size_t e = 0; e < experts; ++e) mean += score[e] * dScore[e];
      for (size_t e = 0; e < experts; ++e) out[e] = score[e] * (dScore[e] - mean + push);
    }
  });
  return 0;
}

SLUICE_EXPORT(router, router);
SLUICE_EXPORT(routerBackward, routerBackward);

}  // namespace sluice
