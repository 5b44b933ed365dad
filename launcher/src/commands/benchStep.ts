/** `sluice bench step`: the speed of one training step. */

import { setFlagsFromString } from 'node:v8';
import type { BackendName, Precision } from '@sluice/engine';
import type { BenchClock, BenchShape, StepProfile } from '@sluice/train';
import { CLOCK_OPTION, THREADS_OPTION, useThreads } from '../bench/options.ts';
import { NO_KERNEL_ON_DEVICE, stepPicture } from '../bench/stepPicture.ts';
import { defineCommand } from '../cli/command.ts';
import { BACKEND_OPTION, PRECISION_OPTION } from '../cli/options.ts';

interface BenchStepArguments {
  readonly shape: BenchShape;
  readonly threads: number;
  readonly backend: BackendName;
  readonly precision?: Precision;
  readonly clock: BenchClock;
  readonly profile: boolean;
  readonly svg?: string;
}

/** Measured steps, after the warm-up. */
const STEPS = 8;
/** As many as make up for their shortness, and for the compiler of JavaScript that still works in the first ones. */
const SHORT_STEPS = 100;

export const benchStepCommand = defineCommand<BenchStepArguments>({
  name: 'bench step',
  describe: 'Measure a training step: forward, backward, clipping, AdamW, in one process.',
  positionals: {},
  options: {
    shape: {
      type: 'string',
      choices: ['dense-9m', 'moe-20m', 'dense-34m', 'hybrid-20m', 'tiny-100k'],
      demandOption: true,
      requiresArg: true,
      describe: 'Model and batch that are measured.',
    },
    threads: THREADS_OPTION,
    backend: {
      ...BACKEND_OPTION,
      default: 'native',
      describe: 'TensorFlow.js backend that computes.',
    },
    precision: PRECISION_OPTION,
    clock: CLOCK_OPTION,
    profile: {
      type: 'boolean',
      default: false,
      describe: 'Tell what a step’s time is spent on.',
    },
    svg: { type: 'string', requiresArg: true, describe: 'File that gets a picture of the profile.' },
  },
  examples: [
    ['sluice bench step --shape dense-9m', 'All cores.'],
    ['sluice bench step --shape moe-20m --threads 1 --json', 'One thread, as JSON.'],
    ['sluice bench step --shape dense-9m --backend tensorflow', 'By TensorFlow’s kernels.'],
    ['sluice bench step --shape dense-9m --profile --svg step.svg', 'Where the time goes, with a picture.'],
  ],
  async run({ shape, threads, backend, precision, clock, profile, svg }) {
    const { refuseUnwritable, SluiceError, writeOutputFile } = await import('@sluice/core');
    if (backend === 'cuda' && clock === 'cpu')
      throw new SluiceError('SLUICE_E_USAGE', '--clock cpu does not see what a GPU computes. Leave it out.');
    if (svg !== undefined) refuseUnwritable(svg);
    const count = useThreads(threads, clock);
    // As in a worker: the garbage of loading modules must not enlarge the memory that a step is measured by.
    setFlagsFromString('--semi-space-growth-factor=1');
    const { benchStep } = await import('@sluice/train');
    const { formatBytes, formatCount, terminalTable } = await import('@sluice/observe');
    const wanted = profile || svg !== undefined;
    const measured = await benchStep({
      shape,
      threads: count,
      steps: shape === 'tiny-100k' ? SHORT_STEPS : STEPS,
      backend,
      precision,
      clock,
      profile: wanted,
    });
    const peak = measured.devicePeak ?? { edge: 2048, gflops: measured.sgemmPeakGflops! };
    const inPrecision = precision ? `${backend} in ${precision}` : backend;
    const withThreads = `${inPrecision}, ${count === 1 ? 'one thread' : `${count} threads`}`;
    const computedBy = measured.devicePeak ? inPrecision : withThreads;
    const title = `${shape}: ${computedBy}${clock === 'cpu' ? ', CPU time' : ''}`;
    if (svg !== undefined && measured.profile)
      await writeOutputFile(svg, [stepPicture(measured.profile, title)]);
    const rows = [
      [
        `a step, ${clock === 'cpu' ? 'CPU ms' : 'ms'}`,
        measured.stepMs.toFixed(measured.stepMs < 100 ? 2 : 0),
      ],
      ['tokens a second', formatCount(Math.round(measured.tokensPerSecond))],
      ['GFLOP/s', measured.gflops.toFixed(1)],
      [`peak of a ${peak.edge}³ product, GFLOP/s`, peak.gflops.toFixed(1)],
      ['utilization', `${(100 * measured.utilization).toFixed(1)} %`],
      ['peak memory', formatBytes(measured.peakRssBytes)],
      ...(measured.peakDeviceBytes === undefined
        ? []
        : [['peak memory of the GPU', formatBytes(measured.peakDeviceBytes)]]),
    ];
    const summary = terminalTable(rows, {
      header: [shape, computedBy],
      align: ['left', 'right'],
    });
    const { header, align, rows: parts } = measured.profile ? profileTable(measured.profile) : NO_TABLE;
    const breakdown = parts.length > 0 ? `\n${terminalTable(parts, { header, align })}` : '';
    return { json: { ...measured }, text: summary + breakdown };
  },
});

interface Table {
  readonly header: string[];
  readonly align: ('left' | 'right')[];
  readonly rows: string[][];
}

const NO_TABLE: Table = { header: [], align: [], rows: [] };

function profileTable({ stepMs, parts, betweenKernelsMs, outsideOperationsMs }: StepProfile): Table {
  const row = (name: string, ...times: number[]) => {
    const sum = times.reduce((a, b) => a + b, 0);
    return [
      name,
      ...times.map((ms) => (ms === 0 ? '' : ms.toFixed(2))),
      `${((100 * sum) / stepMs).toFixed(1)} %`,
    ];
  };
  return {
    header: ['part', 'forward, ms', 'backward, ms', 'update, ms', 'share'],
    align: ['left', 'right', 'right', 'right', 'right'],
    rows: [
      ...parts.map((part) => row(part.name, part.forwardMs, part.backwardMs, part.updateMs)),
      ...(outsideOperationsMs === undefined
        ? [row(NO_KERNEL_ON_DEVICE, 0, 0, betweenKernelsMs)]
        : [
            row('around the kernels, in JavaScript', 0, 0, betweenKernelsMs - outsideOperationsMs),
            row('TensorFlow.js, tape, trainer', 0, 0, outsideOperationsMs),
          ]),
    ],
  };
}
