/** `sluice simulate`: what a run would be on a larger machine, before it is paid for. */

import { defineCommand } from '../cli/command.ts';
import { above, atLeast, configFile, MODEL_SET_OPTION, wholeNumber } from '../cli/options.ts';
import type { SimulateFlags } from '../run/simulateRun.ts';

interface SimulateArguments extends SimulateFlags {
  readonly config: string;
  readonly svg?: string;
}

const count = (flag: string, describe: string) =>
  ({ type: 'number', requiresArg: true, coerce: wholeNumber(flag, 1), describe }) as const;
const amount = (flag: string, describe: string) =>
  ({ type: 'number', requiresArg: true, coerce: atLeast(flag, 0), describe }) as const;
const positive = (flag: string, describe: string) =>
  ({ type: 'number', requiresArg: true, coerce: above(flag, 0), describe }) as const;

export const simulateCommand = defineCommand<SimulateArguments>({
  name: 'simulate',
  describe:
    'Simulate a run on a cluster: the time of a step and its exposed communication by size, and what failures leave of the time.',
  positionals: {
    config: {
      type: 'string',
      demandOption: true,
      coerce: configFile,
      describe: 'Configuration of a run, or a model (YAML).',
    },
  },
  options: {
    set: MODEL_SET_OPTION,
    devices: { ...count('devices', 'Devices, one worker each: a power of two.'), demandOption: true },
    device: {
      type: 'string',
      requiresArg: true,
      choices: ['h100', 'h200', 'a100', 'cpu'],
      default: 'h100',
      describe: 'What each worker has; cpu: a machine like this one, whose speed is measured.',
    },
    'devices-per-host': count('devices-per-host', 'Devices of a host: 8, or 1 with --device cpu.'),
    'expert-parallel': count('expert-parallel', 'Workers that share one set of experts.'),
    batch: count(
      'batch',
      'Sequences in the global batch of a step; when left out, each device has as many as in the file (16 of a model alone).',
    ),
    grain: count('grain', 'Sequences of one grain.'),
    'sequence-length': count('sequence-length', 'Tokens of a sequence.'),
    topology: {
      type: 'string',
      requiresArg: true,
      choices: ['flat', 'hierarchical'],
      default: 'hierarchical',
      describe:
        'What the first table and the fields of the JSON are of: within hosts, then between them, as workers do, or every worker with every other.',
    },
    link: positive('link', 'Between hosts, Gbit/s of a host.'),
    latency: amount('latency', 'Between hosts, microseconds.'),
    message: amount('message', 'What a message between hosts costs, microseconds.'),
    imbalance: {
      ...{ type: 'number', requiresArg: true, coerce: atLeast('imbalance', 1) },
      default: 1,
      describe: 'Rows of the busiest worker of a set of experts, against the mean.',
    },
    measured: {
      type: 'string',
      requiresArg: true,
      describe: 'Run whose workers’ speed counts, as its metrics have it, in place of the device’s.',
    },
    mtbf: {
      ...positive('mtbf', 'Mean time between failures of a device, hours.'),
      default: 50_000,
    },
    detect: { ...amount('detect', 'Until a failure is known, seconds.'), default: 15 },
    restart: { ...amount('restart', 'From there until training goes on, seconds.'), default: 120 },
    stall: amount(
      'stall',
      'How long training stands still for a checkpoint, seconds; from the model when left out.',
    ),
    save: amount(
      'save',
      'Until a checkpoint is durable, seconds; from the model and --write-rate when left out.',
    ),
    'write-rate': { ...positive('write-rate', 'At which a host writes checkpoints, GB/s.'), default: 1 },
    'save-every': positive(
      'save-every',
      'Seconds of training between checkpoints; the best of those that are tried when left out.',
    ),
    'copy-every': positive(
      'copy-every',
      'Seconds of training between copies in other hosts’ memory; without them when left out.',
    ),
    'copy-stall': amount(
      'copy-stall',
      'How long training stands still for these, seconds; from the model when left out.',
    ),
    'copy-survival': {
      ...{ type: 'number', requiresArg: true, coerce: atLeast('copy-survival', 0, 1) },
      default: 0.95,
      describe: 'Share of the failures after which these copies are still there.',
    },
    days: { ...positive('days', 'Days that are simulated.'), default: 30 },
    seed: {
      ...{ type: 'number', requiresArg: true, coerce: wholeNumber('seed', 0) },
      default: 1,
      describe: 'Draws the failures.',
    },
    svg: { type: 'string', requiresArg: true, describe: 'File that gets a picture.' },
  },
  examples: [
    ['sluice simulate configs/models/1.7b-28l.yaml --devices 16384', 'Up to 2,048 hosts of eight.'],
    [
      'sluice simulate configs/quickstart.yaml --devices 2 --device cpu --link 0.1 --measured runs/quickstart',
      'The quickstart on two machines that a slow link connects, as fast as it was here.',
    ],
    [
      'sluice simulate configs/models/15b-a2b.yaml --devices 1024 --device h200 --expert-parallel 8 --copy-every 60 --svg scale.svg',
      'With copies in memory every minute, and a picture.',
    ],
    [
      'sluice simulate configs/models/1.7b-28l.yaml --devices 1024 --set parallel.gradients=bfloat16 batch.sequences=4',
      'With gradients as halves, and four sequences a device.',
    ],
  ],
  async run({ config, svg, set = [], ...flags }, { log }) {
    const { refuseUnwritable, writeOutputFile } = await import('@sluice/core');
    if (svg !== undefined) refuseUnwritable(svg);
    const { simulateRun } = await import('../run/simulateRun.ts');
    const { withModelOfWeights } = await import('../run/runConfig.ts');
    const changes = await withModelOfWeights(config, set, log);
    const { result, picture } = await simulateRun(config, { ...flags, set: changes }, log);
    if (svg !== undefined) await writeOutputFile(svg, [picture]);
    return result;
  },
});
