/** A run's numbers by the names that other tools are told them by. */

import type { DiagnosticsRecord } from './diagnosticsLog.ts';
import { maxViolation, STEP_PARTS, type StepRecord } from './record.ts';
import { meanOfGates } from './report/diagnostics.ts';

/** By name, those that are finite. Names have a group before the slash. */
export type Scalars = Readonly<Record<string, number>>;

export function stepScalars(record: StepRecord): Scalars {
  const { groupNorms = {}, lastUpdate, validationLosses = {}, seconds } = record;
  return finite({
    'train/loss': record.loss,
    'train/auxiliary_loss': record.auxiliaryLoss,
    'train/gradient_norm': record.gradientNorm,
    'train/learning_rate': record.learningRate,
    'train/update_skipped': record.applied ? 0 : 1,
    'train/spike': record.spike ? 1 : 0,
    'train/max_violation': maxViolation(record.expertLoad),
    'train/largest_attention_logit': record.largestAttentionLogit,
    'validation/loss': record.validationLoss,
    ...prefixed('validation/loss', validationLosses),
    'system/tokens_per_second': record.tokensPerSecond,
    'system/peak_memory_bytes': record.peakMemoryBytes,
    'system/step_seconds': seconds.total,
    ...prefixed('system/seconds', Object.fromEntries(STEP_PARTS.map((part) => [part, seconds[part]]))),
    ...prefixed('gradient_norm', groupNorms),
    ...prefixed('update_ratio', {
      ...(lastUpdate && { overall: lastUpdate.overall }),
      ...lastUpdate?.groups,
    }),
  });
}

export function measuredScalars(record: DiagnosticsRecord): Scalars {
  const { router } = record;
  return finite({
    'model/first_token_attention': record.firstTokenAttention,
    'model/massive_activation': record.massiveActivation,
    'model/largest_activation': record.largestActivation,
    'model/feed_forward_activation': record.feedForwardActivation,
    'model/gate_score_mean': record.gateScoreMean,
    'model/gate_scores_below_tenth': meanOfGates(record.gates, 'belowTenth'),
    'model/largest_attention_logit': record.largestAttentionLogit,
    'model/attention_entropy': record.attentionEntropy,
    'model/router_entropy': router?.entropy,
    'model/dead_experts': router?.deadExperts,
    ...Object.fromEntries(
      record.layers.flatMap(({ layer, firstTokenAttention, massiveActivation, gateScoreMean }) => [
        [`first_token_attention/layer_${layer}`, firstTokenAttention],
        [`massive_activation/layer_${layer}`, massiveActivation],
        [`gate_score/layer_${layer}`, gateScoreMean],
      ]),
    ),
  });
}

function prefixed(prefix: string, values: Readonly<Record<string, number>>): Record<string, number> {
  const named: Record<string, number> = {};
  for (const name in values) named[`${prefix}/${name}`] = values[name]!;
  return named;
}

function finite(values: Readonly<Record<string, number | null | undefined>>): Scalars {
  const kept: Record<string, number> = {};
  for (const name in values) if (Number.isFinite(values[name])) kept[name] = values[name]!;
  return kept;
}
