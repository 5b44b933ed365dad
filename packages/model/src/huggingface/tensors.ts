/** Which tensors a Hugging Face checkpoint has, and which logical tensors of the model lie in each. */

import type { ModelConfig } from '../config.ts';
import { type LogicalTensor, modelTensors } from '../parameters.ts';
import type { HuggingFaceLayout } from './layouts.ts';

/** A tensor of the files: its logical tensors one after the other. */
export interface HuggingFaceTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly parts: readonly Pick<LogicalTensor, 'name' | 'shape' | 'size'>[];
}

const EXPERT = /^(.*\.mlp\.experts)\.\d+\.(gate|up|down)_proj\.weight$/;

/**
 * The tensors of a checkpoint, in the order of the forward pass. Names and layouts of logical tensors are those of
 * Hugging Face already; only fused experts differ: [E, 2F, C], for each expert its gate and its up matrix, and [E, C, F].
 */
export function huggingFaceTensors(model: ModelConfig, layout: HuggingFaceLayout): HuggingFaceTensor[] {
  const tensors = modelTensors(model);
  const { experts, hiddenSize } = model;
  if (layout !== 'qwen3-moe-fused' || !experts) {
    return tensors.map((tensor) => ({ name: tensor.name, shape: tensor.shape, parts: [tensor] }));
  }
  const fused = new Map<string, LogicalTensor[]>();
  for (const tensor of tensors) {
    const match = EXPERT.exec(tensor.name);
    const name = match ? `${match[1]}.${match[2] === 'down' ? 'down_proj' : 'gate_up_proj'}` : tensor.name;
    fused.set(name, [...(fused.get(name) ?? []), tensor]);
  }
  const { count, intermediateSize: inner } = experts;
  return [...fused].map(([name, parts]) => {
    if (name.endsWith('.gate_up_proj')) return { name, shape: [count, 2 * inner, hiddenSize], parts };
    if (name.endsWith('.experts.down_proj')) return { name, shape: [count, hiddenSize, inner], parts };
    return { name, shape: parts[0]!.shape, parts };
  });
}

/** The layout by the names of the tensors: that of the experts, where there are any. */
export function layoutOfNames(layout: HuggingFaceLayout, names: Iterable<string>): HuggingFaceLayout {
  if (layout !== 'qwen3-moe') return layout;
  for (const name of names) if (name.endsWith('.mlp.experts.gate_up_proj')) return 'qwen3-moe-fused';
  return layout;
}
