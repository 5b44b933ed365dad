/** `sluice bench step`: the speed of one training step. */

import type { BackendName } from '@sluice/engine';
import { defineCommand } from '../cli/command.ts';
import { wholeNumber } from '../cli/options.ts';

interface BenchStepArguments {
  readonly shape: 'dense-9m' | 'moe-20m' | 'dense-34m';
  readonly threads: number;
  readonly backend: BackendName;
}

/** Measured steps, after the warm-up. */
const STEPS = 8;

export const benchStepCommand = defineCommand<BenchStepArguments>({
  name: 'bench step',
  describe: 'Measure a training step: forward, backward, clipping, AdamW, in one process.',
  positionals: {},
  options: {
    shape: {
      type: 'string',
      choices: ['dense-9m', 'moe-20m', 'dense-34m'],
      demandOption: true,
      requiresArg: true,
      describe: 'Model and batch that are measured.',
    },
    threads: {
      type: 'number',
      default: 0,
      requiresArg: true,
      coerce: wholeNumber('threads', 0),
      describe: 'Threads; 0 for all cores.',
    },
    backend: {
      type: 'string',
      choices: ['native', 'tensorflow', 'wasm', 'cpu'],
      default: 'native',
      requiresArg: true,
      describe: 'TensorFlow.js backend that computes.',
    },
  },
  examples: [
    ['sluice bench step --shape dense-9m', 'All cores.'],
    ['sluice bench step --shape moe-20m --threads 1 --json', 'One thread, as JSON.'],
    ['sluice bench step --shape dense-9m --backend tensorflow', 'By TensorFlow’s kernels.'],
  ],
  async run({ shape, threads, backend }) {
    const { availableParallelism } = await import('node:os');
    const count = threads === 0 ? availableParallelism() : threads;
    // OpenMP reads its variables when the C++ core is loaded, which the import below does.
    process.env.OMP_NUM_THREADS = String(count);
    const { benchStep } = await import('@sluice/train');
    const { formatBytes, formatCount, terminalTable } = await import('@sluice/observe');
    const measured = await benchStep({ shape, threads: count, steps: STEPS, backend });
    const rows = [
      ['tokens a second', formatCount(Math.round(measured.tokensPerSecond))],
      ['GFLOP/s', measured.gflops.toFixed(1)],
      ['peak of a 2048³ product, GFLOP/s', measured.sgemmPeakGflops.toFixed(1)],
      ['utilization', `${(100 * measured.utilization).toFixed(1)} %`],
      ['peak memory', formatBytes(measured.peakRssBytes)],
    ];
    return {
      json: { ...measured },
      text: terminalTable(rows, {
        header: [shape, `${backend}, ${count} threads`],
        align: ['left', 'right'],
      }),
    };
  },
});
