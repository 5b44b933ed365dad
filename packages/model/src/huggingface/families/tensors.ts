/** The tensors of a family's files. */

import type { ModelConfig } from '../../config.ts';
import { interleavedGate } from '../../gates/gate.ts';
import { type LayerModel, layerModels } from '../../layers.ts';
import { type LogicalTensor, modelTensors } from '../../parameters.ts';
import type { HuggingFaceTensor, TensorRun } from '../fileTensor.ts';
import type { HuggingFaceLayout } from '../layouts.ts';
import { headRowsOf, queryRows, runsOfRows } from '../rowMaps.ts';
import type { Family, TensorNames, TensorPlace } from './family.ts';

const LAYER = /^model\.layers\.(\d+)\.(.*)$/;

/** What goes into one tensor, perhaps behind other things. */
interface Portion {
  readonly place: TensorPlace & { readonly shape: readonly number[] };
  readonly runs: readonly TensorRun[];
}

export function familyTensors(
  model: ModelConfig,
  family: Family,
  layout: HuggingFaceLayout,
): HuggingFaceTensor[] {
  const names = family.names(layout);
  const layers = layerModels(model);
  const tensors = new Map<string, { shape: readonly number[]; runs: TensorRun[] }>();
  for (const tensor of modelTensors(model)) {
    const [, layer, name] = LAYER.exec(tensor.name) ?? [];
    const portions =
      layer === undefined
        ? [ofModel(tensor, names)]
        : (mixedPortions(tensor, layers[Number(layer)]!, `model.layers.${layer}.`, names) ??
          portionsOf(tensor, name!, layers[Number(layer)]!, names));
    for (const { place, runs } of portions) {
      const whole = layer === undefined ? place.name : `model.layers.${layer}.${place.name}`;
      const known = tensors.get(whole);
      if (known) known.runs.push(...runs);
      else tensors.set(whole, { shape: place.shape, runs: [...runs] });
    }
  }
  const written = [...tensors].map(([name, tensor]) => ({
    name: withPrefix(name, names.prefixes[0]),
    ...tensor,
  }));
  return family.adapt?.(model)?.tensors(written) ?? written;
}

/** Puts what a family, or a model that sees too, has in place of `model.`. */
export function withPrefix(name: string, prefix: string): string {
  if (name.startsWith('model.')) return `${prefix}${name.slice('model.'.length)}`;
  // The output projection lies beside the model.
  return prefix.endsWith('.model.') ? `${prefix.slice(0, -'model.'.length)}${name}` : name;
}

function ofModel({ name, shape, size }: LogicalTensor, names: TensorNames): Portion {
  return { place: { name: names.ofModel?.[name] ?? name, shape }, runs: [{ name, begin: 0, size }] };
}

/** What a tensor that is cut and mixed with others goes into: the first of them all of it, the others nothing more. */
function mixedPortions(
  { name }: LogicalTensor,
  layer: LayerModel,
  prefix: string,
  { mixed }: TensorNames,
): Portion[] | undefined {
  const goals = mixed?.(layer, prefix).filter(({ runs }) => runs.some((run) => run.name === name)) ?? [];
  if (goals.length === 0) return undefined;
  return goals
    .filter(({ runs }) => runs[0]!.name === name)
    .map(({ name: called, shape, runs }) => ({ place: { name: called, shape }, runs }));
}

function portionsOf(tensor: LogicalTensor, name: string, layer: LayerModel, names: TensorNames): Portion[] {
  const target = names.ofLayer(name, layer);
  const { name: called, shape = tensor.shape } = typeof target === 'string' ? { name: target } : target;
  const place = { name: called, shape };
  const columns = tensor.shape.length === 1 ? 1 : tensor.shape[1]!;
  const inRows = (rows: readonly number[]) => runsOfRows(tensor.name, rows, columns);
  switch (name) {
    case 'self_attn.q_proj.weight':
      return queryPortions(tensor, called, layer, names);
    case 'self_attn.k_proj.weight':
      return [{ place, runs: inRows(headRowsOf(layer, layer.numKeyValueHeads)) }];
    case 'self_attn.q_norm.weight':
    case 'self_attn.k_norm.weight':
      // Of each head, or of all of them together.
      return [{ place, runs: inRows(headRowsOf(layer, tensor.size / layer.headDim)) }];
    default:
      return [{ place, runs: [{ name: tensor.name, begin: 0, size: tensor.size }] }];
  }
}

function queryPortions(
  tensor: LogicalTensor,
  name: string,
  layer: LayerModel,
  { gate }: TensorNames,
): Portion[] {
  const [, columns] = tensor.shape as [number, number];
  const { queries, gates } = queryRows(layer);
  const portion = (called: string, rows: readonly number[]): Portion => ({
    place: { name: called, shape: [rows.length, columns] },
    runs: runsOfRows(tensor.name, rows, columns),
  });
  if (interleavedGate(layer) === 'none') return [portion(name, queries.flat())];
  if (gate !== 'behind-queries') return [portion(name, queries.flat()), portion(gate.tensor, gates.flat())];
  // One score for each channel: those of a headwise gate are all alike.
  const scores = (rows: readonly number[]) =>
    rows.length === 1 ? Array<number>(layer.headDim).fill(rows[0]!) : rows;
  return [
    portion(
      name,
      queries.flatMap((rows, head) => [...rows, ...scores(gates[head]!)]),
    ),
  ];
}
