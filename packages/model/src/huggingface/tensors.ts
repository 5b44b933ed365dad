/** Which tensors a Hugging Face checkpoint has, and which elements of the model's logical tensors lie in each. */

import type { ModelConfig } from '../config.ts';
import { type LogicalTensor, modelTensors } from '../parameters.ts';
import { familyOf } from './families/index.ts';
import { familyTensors } from './families/tensors.ts';
import { type HuggingFaceTensor, wholeTensor } from './fileTensor.ts';
import type { HuggingFaceLayout } from './layouts.ts';

const EXPERT = /^(.*\.mlp\.experts)\.\d+\.(gate|up|down)_proj\.weight$/;

/**
 * The tensors of a checkpoint, in the order of the forward pass. Names and layouts of logical tensors are those of
 * Qwen3 already; only fused experts differ: [E, 2F, C], for each expert its gate and its up matrix, and [E, C, F]. What families
 * have otherwise is in `families/`.
 */
export function huggingFaceTensors(model: ModelConfig, layout: HuggingFaceLayout): HuggingFaceTensor[] {
  const family = familyOf(layout);
  if (family) return familyTensors(model, family, layout);
  const tensors = modelTensors(model);
  const { experts, hiddenSize } = model;
  if (layout !== 'qwen3-moe-fused' || !experts) {
    return tensors.map((tensor) => ({
      name: tensor.name,
      shape: tensor.shape,
      runs: [wholeTensor(tensor)],
    }));
  }
  const fused = new Map<string, LogicalTensor[]>();
  for (const tensor of tensors) {
    const match = EXPERT.exec(tensor.name);
    const name = match ? `${match[1]}.${match[2] === 'down' ? 'down_proj' : 'gate_up_proj'}` : tensor.name;
    fused.set(name, [...(fused.get(name) ?? []), tensor]);
  }
  const { count, intermediateSize: inner } = experts;
  return [...fused].map(([name, parts]) => {
    const runs = parts.map(wholeTensor);
    if (name.endsWith('.gate_up_proj')) return { name, shape: [count, 2 * inner, hiddenSize], runs };
    if (name.endsWith('.experts.down_proj')) return { name, shape: [count, hiddenSize, inner], runs };
    return { name, shape: parts[0]!.shape, runs };
  });
}

/** The layout by the names of the tensors: that of the experts, where there are any. */
export function layoutOfNames(layout: HuggingFaceLayout, names: Iterable<string>): HuggingFaceLayout {
  const isFused = (expert: string) => expert.endsWith('.mlp.experts.gate_up_proj');
  const isPerExpert = (expert: string) => /\.mlp\.experts\.0\.gate_proj\.weight$/.test(expert);
  const family = familyOf(layout);
  for (const name of names) {
    if (/^mtp\./.test(name)) continue;
    if (layout === 'qwen3-moe' && isFused(name)) return 'qwen3-moe-fused';
    if (family?.perExpertLayout && isPerExpert(name)) return family.perExpertLayout;
  }
  return layout;
}

/** What a tensor that a model has no use for is a part of, if it may be left out. */
export function leftOutOf(layout: HuggingFaceLayout, name: string, model: ModelConfig): string | undefined {
  return familyOf(layout)?.leftOut?.(name, model);
}
