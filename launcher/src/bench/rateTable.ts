/** Rates of a device's kernels as people read them. */

import type { Ceilings, KernelRate } from '@sluice/engine/cuda';
import { terminalTable } from '@sluice/observe';

export function rateTable(
  ceilings: Ceilings | undefined,
  kernels: readonly KernelRate[],
  title: string,
): string {
  const teraflops = (gflops: number) => `${(gflops / 1000).toFixed(gflops < 1e4 ? 3 : 1)} TFLOP/s`;
  const limits = ceilings
    ? [
        [`products by ${ceilings.instruction}`, '', teraflops(ceilings.tensorGflops), ''],
        ['copy', '', `${ceilings.copyGBps.toFixed(1)} GB/s`, ''],
        ['a launch', (ceilings.launchMicroseconds / 1000).toFixed(4), '', ''],
      ]
    : [];
  const rows = kernels.map(({ name, ms, gflops, gigabytesPerSecond, share }) => [
    name,
    ms.toFixed(ms < 1 ? 4 : 3),
    gflops === undefined ? `${gigabytesPerSecond!.toFixed(1)} GB/s` : teraflops(gflops),
    share?.toFixed(2) ?? '',
  ]);
  return terminalTable([...limits, ...rows], {
    header: [title, 'ms', 'rate', 'of the limit'],
    align: ['left', 'right', 'right', 'right'],
  });
}
