/**
 * Balancing of experts without a loss (Wang et al., arXiv 2408.15664, algorithm 1): after a step, the bias of an expert's score
 * grows where the expert got less than the mean of the tokens, and shrinks where it got more, by a fixed rate.
 *
 * All workers have agreed on the tokens of each expert, and every one of them holds the biases of all. So each moves them by
 * itself, and they stay the same everywhere.
 */

import { changeOnHost } from '@sluice/engine';
import { balanceBiasName, expertLayers, type ModelConfig } from '@sluice/model';
import type { PlacedParameter } from './flatValues.ts';

/**
 * b_e ← b_e + rate · sign(mean − tokens_e), in each layer with experts; nothing for a model without such biases.
 * @param expertCounts tokens of the global batch that went to each expert, for the layers with experts one after the other
 */
export function balanceChoice(
  model: ModelConfig,
  parameters: readonly PlacedParameter[],
  expertCounts: Float64Array,
): void {
  const { experts } = model;
  if (!experts?.balanceBias) return;
  const { count, balanceBias } = experts;
  const byName = new Map(parameters.map(({ spec, parameter }) => [spec.name, parameter]));
  for (const [i, layer] of expertLayers(model).entries()) {
    const bias = byName.get(balanceBiasName(layer))!;
    const tokens = expertCounts.subarray(i * count, (i + 1) * count);
    const total = tokens.reduce((sum, of) => sum + of, 0);
    // Times the number of experts, so that whole numbers are compared.
    changeOnHost(bias.values, (values) => {
      tokens.forEach((of, expert) => {
        values[expert]! += balanceBias.rate * Math.sign(total - count * of);
      });
    });
    bias.refresh();
  }
}
