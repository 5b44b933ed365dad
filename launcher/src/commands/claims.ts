/** `sluice claims`: the paper's testable claims at a scale that fits, with verdicts. */

import type { Scale } from '@sluice/model';
import { defineCommand } from '../cli/command.ts';
import { EXPERIMENT_OPTIONS } from '../cli/experimentOptions.ts';
import { above, configFile, wholeNumbers } from '../cli/options.ts';

interface ClaimsArguments {
  readonly claims?: string;
  readonly only?: number[];
  readonly scale: Scale;
  readonly seeds?: number;
  readonly budget?: number;
  readonly jobs?: number;
  readonly threads?: number;
  readonly directory: string;
}

const { seeds, jobs, threads, directory, scale } = EXPERIMENT_OPTIONS;

const PAPER_CLAIMS = 'configs/paper/claims.yaml';

export const claimsCommand = defineCommand<ClaimsArguments>({
  name: 'claims',
  describe: 'Run what is missing for the paper’s testable claims, and say which the results support.',
  positionals: {
    claims: {
      type: 'string',
      coerce: configFile,
      describe: `Claims as predicates over experiments (YAML); ${PAPER_CLAIMS} when left out.`,
    },
  },
  options: {
    only: {
      type: 'string',
      requiresArg: true,
      coerce: wholeNumbers('only'),
      describe: 'Numbers of claims, separated by commas; all when left out.',
    },
    scale: { ...scale, default: 'tiny' },
    seeds,
    budget: {
      type: 'number',
      requiresArg: true,
      coerce: above('budget', 0),
      describe: 'Hours after which no more is run; what was not run is undecided, and goes on the next time.',
    },
    jobs,
    threads,
    directory,
  },
  examples: [
    ['sluice claims', 'All claims at the tiny scale; hours on two cores.'],
    ['sluice claims --only 1,2,3 --budget 1', 'Three of them, within an hour; the same command goes on.'],
    ['sluice claims --scale small --seeds 5 --json', 'At a larger scale with more seeds, as JSON.'],
  ],
  async run({ claims, ...options }, { log }) {
    const { testClaims } = await import('../claims/claims.ts');
    const { shippedFile } = await import('@sluice/core');
    return testClaims({ ...options, claims: claims ?? shippedFile(PAPER_CLAIMS) }, log);
  },
});
