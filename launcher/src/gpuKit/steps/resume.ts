/** A run that is killed, again and again, against a quiet one: `sluice verify-resume` on the card. */

import { Laboratory, runConfig } from '../laboratory.ts';
import type { RunStep } from '../step.ts';
import { SMALL_RUNS } from './workers.ts';

interface Verified {
  readonly identical: boolean;
  readonly kills: number;
  readonly rounds: number;
  readonly weightsHash: string;
  readonly faults: readonly { readonly kind: string; readonly step: number }[];
}

export const runStep: RunStep = async (context) => {
  const laboratory = new Laboratory(context);
  const sizes = { ...SMALL_RUNS[context.scale], checkpointEvery: 2 };
  const steps = context.scale === 'full' ? 200 : 8;
  const config = laboratory.write('resume.yaml', { ...runConfig({ ...sizes, steps }), backend: 'cuda' });
  const kills = context.scale === 'full' ? 3 : 1;
  const words = ['--kills', `${kills}`, '--seed', '1', '--run-dir', laboratory.path('verified')];
  const verified = await laboratory.sluice<Verified>('verify-resume', config, ...words);
  const faults = verified.faults.map(({ kind, step }) => `${kind} after step ${step}`).join(', ');
  return {
    verdict: verified.identical ? 'right' : 'wrong',
    summary: `the weights of the quiet run after ${verified.kills} faults in ${verified.rounds} runs (${faults})`,
    data: { ...verified },
  };
};
