/** `sluice bench kernels`: the speed of each kernel of the C++ core beside what the machine can do. */

import type { BenchClock } from '@sluice/train';
import { CLOCK_OPTION, THREADS_OPTION, useThreads } from '../bench/options.ts';
import { defineCommand } from '../cli/command.ts';

interface BenchKernelsArguments {
  readonly threads: number;
  readonly filter?: string;
  readonly clock: BenchClock;
}

export const benchKernelsCommand = defineCommand<BenchKernelsArguments>({
  name: 'bench kernels',
  describe: 'Measure the kernels of the C++ core one by one.',
  positionals: {},
  options: {
    threads: THREADS_OPTION,
    filter: { type: 'string', requiresArg: true, describe: 'Only kernels whose name contains this.' },
    clock: CLOCK_OPTION,
  },
  examples: [
    ['sluice bench kernels', 'All kernels on all cores.'],
    ['sluice bench kernels --filter attention --threads 1', 'Attention on one thread.'],
  ],
  async run({ threads, filter, clock }) {
    const count = useThreads(threads);
    const { benchKernels, cpuClock, wallClock } = await import('@sluice/engine');
    const { terminalTable } = await import('@sluice/observe');
    const measured = await benchKernels({
      threads: count,
      filter,
      clock: clock === 'cpu' ? cpuClock : wallClock,
    });
    const limits = [
      ['product of 2048³', '', `${measured.sgemmPeakGflops.toFixed(1)} GFLOP/s`, ''],
      ['copy of 64 MiB', '', `${measured.copyGBps.toFixed(1)} GB/s`, ''],
    ];
    const rows = measured.kernels.map(({ name, ms, gflops, gigabytesPerSecond, share }) => [
      name,
      ms.toFixed(2),
      gflops === undefined ? `${gigabytesPerSecond!.toFixed(1)} GB/s` : `${gflops.toFixed(1)} GFLOP/s`,
      share.toFixed(2),
    ]);
    return {
      json: { ...measured, clock },
      text: terminalTable([...limits, ...rows], {
        header: [
          `${measured.arithmetic}, ${count} threads`,
          clock === 'cpu' ? 'CPU ms' : 'ms',
          'rate',
          'of the limit',
        ],
        align: ['left', 'right', 'right', 'right'],
      }),
    };
  },
});
