/** `sluice spikes`: the spike detector over a recorded curve. */

import { defineCommand } from '../cli/command.ts';
import { above, atLeast, wholeNumber } from '../cli/options.ts';

interface SpikesArguments {
  readonly curve: string;
  readonly lossTag?: string;
  readonly normTag?: string;
  readonly window?: number;
  readonly warmupSteps?: number;
  readonly threshold?: number;
  readonly minimumExcess?: number;
  readonly minimumRatio?: number;
  readonly svg?: string;
}

export const spikesCommand = defineCommand<SpikesArguments>({
  name: 'spikes',
  describe: 'Find the loss spikes of a recorded curve, by the detector that runs have.',
  positionals: {
    curve: {
      type: 'string',
      demandOption: true,
      describe:
        'CSV (step,loss[,gradientNorm]), metrics.jsonl, run, TensorBoard event file or a directory of them.',
    },
  },
  options: {
    'loss-tag': {
      type: 'string',
      requiresArg: true,
      describe:
        'Tag of event files, or column of a CSV, that is the loss; one of the usual names by default.',
    },
    'norm-tag': {
      type: 'string',
      requiresArg: true,
      describe: 'The same of the gradient norm; without one the loss alone is judged.',
    },
    window: {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('window', 8),
      describe:
        'Points of history that are looked at; 128 by default. This and the following: of a run, as it was configured.',
    },
    'warmup-steps': {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('warmup-steps', 8),
      describe: 'Points of history needed before anything is called a spike; 32 by default.',
    },
    threshold: {
      type: 'number',
      requiresArg: true,
      coerce: above('threshold', 0),
      describe: 'Robust deviations above what is usual, of logarithms; 6 by default.',
    },
    'minimum-excess': {
      type: 'number',
      requiresArg: true,
      coerce: atLeast('minimum-excess', 0),
      describe: 'Least excess of an outlying loss over its median, nats; 0.1 by default.',
    },
    'minimum-ratio': {
      type: 'number',
      requiresArg: true,
      coerce: atLeast('minimum-ratio', 1),
      describe: 'Least ratio of an outlying gradient norm to its median; 1.5 by default.',
    },
    svg: {
      type: 'string',
      requiresArg: true,
      describe: 'File that gets a picture of the curve with its episodes.',
    },
  },
  examples: [
    ['sluice spikes loss.csv', 'Episodes of a curve with columns step and loss.'],
    ['sluice spikes runs/quickstart --threshold 4', 'Of a run, by a stricter threshold than its own.'],
    ['sluice spikes logs/tensorboard --loss-tag "lm loss" --json', 'Of TensorBoard event files, as JSON.'],
    ['sluice spikes loss.csv --svg loss.svg', 'With a picture.'],
  ],
  async run({ curve, lossTag, normTag, svg, ...detector }, { log }) {
    const { examineCurve } = await import('../run/recordedSpikes.ts');
    const { window, warmupSteps, threshold, minimumExcess, minimumRatio } = detector;
    const settings = { window, warmupSteps, threshold, minimumExcess, minimumRatio };
    return examineCurve(curve, { names: { loss: lossTag, norm: normTag }, settings, svg }, log);
  },
});
