/** How large the weights of gates are, head by head: what grows without bound where a gate closes. */

import type { Parameter } from '@sluice/engine';
import type { LayerModel } from '../layers.ts';
import { gateTensors, INTERLEAVED_GATE, interleavedGate, namedGates } from './gate.ts';
import { gatedTensor } from './positions.ts';

/**
 * For each gate of a layer, the norm ‖W_h‖₂ of the weights that each head's logits are made of, or of the learned logits of a gate
 * that no input enters; of one at the position output a single one.
 * @param parameter by its name within the layer
 */
export function gateWeightNorms(
  layer: LayerModel,
  parameter: (name: string) => Parameter,
): { readonly name: string; readonly norms: Float64Array }[] {
  const named = namedGates(layer).map((gate) => {
    const [weight] = gateTensors(gate, layer);
    const { heads } = gatedTensor(gate.position, layer);
    const values = parameter(weight!.name).hostValues;
    const size = values.length / heads;
    const norms = Float64Array.from({ length: heads }, (_, head) => normOf(values, head * size, size));
    return { name: gate.name, norms };
  });
  if (interleavedGate(layer) === 'none') return named;
  return [{ name: INTERLEAVED_GATE, norms: interleavedNorms(layer, parameter) }, ...named];
}

/** For each key-value head there are the rows of its queries, and then those of their gate. */
function interleavedNorms(layer: LayerModel, parameter: (name: string) => Parameter): Float64Array {
  const { numAttentionHeads, numKeyValueHeads, headDim, hiddenSize } = layer;
  const rows = interleavedGate(layer) === 'elementwise' ? headDim : 1;
  const group = numAttentionHeads / numKeyValueHeads;
  const values = parameter('self_attn.qkv_proj.weight').hostValues;
  return Float64Array.from({ length: numAttentionHeads }, (_, head) => {
    const first =
      Math.floor(head / group) * group * (headDim + rows) + group * headDim + (head % group) * rows;
    return normOf(values, first * hiddenSize, rows * hiddenSize);
  });
}

function normOf(values: Float32Array, begin: number, size: number): number {
  let sum = 0;
  for (let i = begin; i < begin + size; i++) sum += values[i]! ** 2;
  return Math.sqrt(sum);
}
