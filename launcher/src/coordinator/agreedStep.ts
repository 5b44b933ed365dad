/** What a step was, as all workers have it; of replicas that train apart, what those of one replica have, and then all together. */

import { combineReplicas, type StepResult } from '@sluice/train';
import { agreed } from './workers.ts';

/** What all workers of one model must agree on. */
export const AGREED_IN_STEP: readonly (keyof StepResult)[] = [
  'step',
  'loss',
  'gradientNorm',
  'groupNorms',
  'lastUpdate',
  'applied',
  'tokens',
  'recheck',
  'largestAttentionLogit',
  'clippedHeads',
];

/** @param answers in order of ranks */
export function agreedStep(step: number, answers: readonly StepResult[]): StepResult {
  const replicas: StepResult[][] = [];
  for (const { replica, result } of answers.flatMap((answer) => answer.replicas ?? [])) {
    replicas[replica] ??= [];
    replicas[replica].push(result);
  }
  if (replicas.length === 0) return agreed(`step ${step}`, answers, AGREED_IN_STEP);
  return combineReplicas(
    replicas.map((results, replica) => agreed(`step ${step} of replica ${replica}`, results, AGREED_IN_STEP)),
  );
}
