/**
 * Models that Qwen’s gated layouts can say, though not as they are: norms that multiply by w as such that multiply by 1 + (w − 1), a
 * headwise gate as an elementwise one whose scores are alike, no shared expert as one of a single hidden unit that gives zero,
 * and one without a gate as half of one that gives the double.
 */

import type { ExpertsConfig, ModelConfig } from '../../config.ts';
import { interleavedGate } from '../../gates/gate.ts';
import { expertLayers } from '../../layers.ts';
import type { HuggingFaceTensor } from '../fileTensor.ts';
import type { Adaptation } from './family.ts';

const LAST_NORM = /^model\.norm\.weight$/;
const CENTRED = /(layernorm|self_attn\.[qk]_norm|^model\.norm)\.weight$/;
const SHARED_DOWN = /\.mlp\.shared_expert\.down_proj\.weight$/;

export function qwenAdaptation(model: ModelConfig): Adaptation | undefined {
  const { experts, zeroCentredNorms } = model;
  const isHeadwise = interleavedGate(model) === 'headwise';
  const lacksShared = experts?.sharedIntermediateSize === 0;
  const lacksGate = experts !== undefined && !lacksShared && !experts.sharedGate;
  // Those of the model that multiply by w.
  const uncentred = { all: undefined, layers: LAST_NORM, none: CENTRED }[zeroCentredNorms ?? 'none'];
  const notes = [
    ...(uncentred
      ? [
          `the gains w of ${uncentred === LAST_NORM ? 'the last norm' : 'norms'} as w − 1: exact from ½ to 2, elsewhere rounded (by 6e-8 in f32)`,
        ]
      : []),
    ...(isHeadwise
      ? ['the headwise gate as an elementwise one with the same rows for all channels: exact']
      : []),
    ...(lacksShared ? ['a shared expert of one hidden unit with weights 0: exact'] : []),
    ...(lacksGate
      ? ['a shared expert with gate weights 0, so that half of it counts, and twice the output: exact']
      : []),
  ];
  if (notes.length === 0) return undefined;
  return {
    model: {
      ...model,
      zeroCentredNorms: 'all',
      ...(isHeadwise && {
        gates: model.gates.map((gate) => ({ ...gate, granularity: 'elementwise' as const })),
      }),
      ...(experts && { experts: withGatedShared(experts) }),
    },
    notes,
    tensors: (tensors) => [
      ...tensors.map((tensor) => ({
        ...tensor,
        ...(uncentred?.test(tensor.name) && { shift: -1 }),
        ...(lacksGate && SHARED_DOWN.test(tensor.name) && { factor: 2 }),
      })),
      ...expertLayers(model).flatMap((layer) => [
        ...(lacksShared ? emptyShared(model, layer) : []),
        ...(lacksShared || lacksGate ? [zeros(`${prefixOf(layer)}_gate.weight`, [1, model.hiddenSize])] : []),
      ]),
    ],
  };
}

function withGatedShared(experts: ExpertsConfig): ExpertsConfig {
  return {
    ...experts,
    sharedGate: true,
    sharedIntermediateSize: Math.max(1, experts.sharedIntermediateSize),
  };
}

const prefixOf = (layer: number) => `model.layers.${layer}.mlp.shared_expert`;

function zeros(name: string, shape: readonly number[]): HuggingFaceTensor {
  return { name, shape, runs: [], constant: 0 };
}

function emptyShared({ hiddenSize }: ModelConfig, layer: number): HuggingFaceTensor[] {
  return ['gate_proj', 'up_proj', 'down_proj'].map((matrix) =>
    zeros(`${prefixOf(layer)}.${matrix}.weight`, matrix === 'down_proj' ? [hiddenSize, 1] : [1, hiddenSize]),
  );
}
