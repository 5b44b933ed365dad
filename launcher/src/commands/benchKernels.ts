/** `sluice bench kernels`: the speed of each kernel of a backend beside what the machine can do. */

import { SluiceError } from '@sluice/core';
import type { BenchClock } from '@sluice/train';
import { CLOCK_OPTION, THREADS_OPTION, useThreads } from '../bench/options.ts';
import { type CommandResult, defineCommand } from '../cli/command.ts';

interface BenchKernelsArguments {
  readonly threads: number;
  readonly filter?: string;
  readonly clock: BenchClock;
  readonly backend: 'native' | 'cuda';
}

export const benchKernelsCommand = defineCommand<BenchKernelsArguments>({
  name: 'bench kernels',
  describe: 'Measure the kernels of a backend one by one.',
  positionals: {},
  options: {
    threads: THREADS_OPTION,
    filter: { type: 'string', requiresArg: true, describe: 'Only kernels whose name contains this.' },
    clock: CLOCK_OPTION,
    backend: {
      type: 'string',
      choices: ['native', 'cuda'],
      default: 'native',
      requiresArg: true,
      describe:
        'Whose kernels: the C++ core’s, or a GPU’s, by its own clock; the emulator’s are tiny and tell no speed.',
    },
  },
  examples: [
    ['sluice bench kernels', 'All kernels on all cores.'],
    ['sluice bench kernels --filter attention --threads 1', 'Attention on one thread.'],
    ['sluice bench kernels --backend cuda', 'The kernels of an NVIDIA GPU.'],
  ],
  run: (args, { log }) => (args.backend === 'cuda' ? onDevice(args) : onHost(args, log)),
});

async function onHost(
  { threads, filter, clock }: BenchKernelsArguments,
  log: (line: string) => void,
): Promise<CommandResult> {
  const count = useThreads(threads, clock);
  const { benchKernels, cpuClock, wallClock } = await import('@sluice/engine');
  const { counted, terminalTable } = await import('@sluice/observe');
  const { percentLogger } = await import('../run/percentLogger.ts');
  const measured = await benchKernels({
    threads: count,
    filter,
    clock: clock === 'cpu' ? cpuClock : wallClock,
    onProgress: percentLogger('measuring kernels', log),
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
        `${measured.arithmetic}, ${counted(count, 'thread')}`,
        clock === 'cpu' ? 'CPU ms' : 'ms',
        'rate',
        'of the limit',
      ],
      align: ['left', 'right', 'right', 'right'],
    }),
  };
}

/** On the emulator at tiny sizes. */
async function onDevice({ threads, filter, clock }: BenchKernelsArguments): Promise<CommandResult> {
  if (threads !== 0 || clock !== 'wall')
    throw new SluiceError(
      'SLUICE_E_USAGE',
      '--threads and --clock are for the kernels of native, not for cuda’s.',
    );
  const { isCudaEmulated, selectBackend } = await import('@sluice/engine');
  const { cudaBackend, measureCeilings, measureRates, ratesNamed } = await import('@sluice/engine/cuda');
  const { rateTable } = await import('../bench/rateTable.ts');
  const scale = isCudaEmulated() ? 'tiny' : 'full';
  const cases = ratesNamed(scale, filter);
  await selectBackend('cuda');
  const { device, arithmetic, description } = cudaBackend();
  const ceilings = await measureCeilings(device, scale);
  const kernels = [];
  for await (const { yardstick, ...rate } of measureRates(device, ceilings, cases)) kernels.push(rate);
  return {
    json: { backend: 'cuda', arithmetic, description, scale, ...ceilings, kernels },
    text: rateTable(ceilings, kernels, description),
  };
}
