/** What the replicas of a run say of a step, as one. */

import type { StepResult, StepSeconds } from '../protocol.ts';

/** @param results of all replicas, in order */
export function combineReplicas(results: readonly StepResult[]): StepResult {
  const [first] = results;
  const of = (pick: (result: StepResult) => number) => mean(results.map(pick));
  const updates = results.map(({ lastUpdate }) => lastUpdate);
  return {
    step: first!.step,
    loss: of(({ loss }) => loss),
    auxiliaryLoss: of(({ auxiliaryLoss }) => auxiliaryLoss),
    gradientNorm: of(({ gradientNorm }) => gradientNorm),
    groupNorms: meanOfEach(results.map(({ groupNorms }) => groupNorms)),
    ...(updates.every((update) => update !== undefined) && {
      lastUpdate: {
        learningRate: updates[0]!.learningRate,
        overall: mean(updates.map(({ overall }) => overall)),
        groups: meanOfEach(updates.map(({ groups }) => groups)),
      },
    }),
    applied: results.every(({ applied }) => applied),
    tokens: results.reduce((sum, { tokens }) => sum + tokens, 0),
    ...(first!.largestAttentionLogit !== undefined && {
      largestAttentionLogit: Math.max(...results.map((result) => result.largestAttentionLogit!)),
      clippedHeads: results.reduce((sum, { clippedHeads }) => sum + clippedHeads!, 0),
    }),
    ...(first!.corpusShares && { corpusShares: meanOfEach(results.map((result) => result.corpusShares!)) }),
    ...(first!.expertLoad && {
      expertLoad: first!.expertLoad.map((loads, layer) =>
        loads.map((_, expert) => of(({ expertLoad }) => expertLoad![layer]![expert]!)),
      ),
    }),
    seconds: sumOfEach(results.map(({ seconds }) => seconds)),
    peakMemoryBytes: Math.max(...results.map(({ peakMemoryBytes }) => peakMemoryBytes)),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function meanOfEach<Key extends string>(
  records: readonly Readonly<Partial<Record<Key, number>>>[],
): Record<Key, number> {
  const keys = Object.keys(records[0]!) as Key[];
  return Object.fromEntries(keys.map((key) => [key, mean(records.map((record) => record[key]!))])) as Record<
    Key,
    number
  >;
}

/** The parts of several times, each added up. */
export function sumOfEach(all: readonly StepSeconds[]): StepSeconds {
  const sum = (part: keyof StepSeconds) => all.reduce((total, seconds) => total + seconds[part], 0);
  return {
    total: sum('total'),
    compute: sum('compute'),
    waiting: sum('waiting'),
    communicate: sum('communicate'),
    optimize: sum('optimize'),
  };
}
