/** The rate of every kernel, beside what the card does at most. */

import { selectBackend } from '@sluice/engine';
import { cudaBackend, type KernelRate, measureCeilings, measureRates, ratesNamed } from '@sluice/engine/cuda';
import { rateTable } from '../../bench/rateTable.ts';
import type { RunStep } from '../step.ts';

export const runStep: RunStep = async ({ scale, keep }) => {
  await selectBackend('cuda');
  const { device } = cudaBackend();
  const ceilings = await measureCeilings(device, scale);
  const kernels: KernelRate[] = [];
  for await (const rate of measureRates(device, ceilings, ratesNamed(scale))) {
    kernels.push(rate);
    keep({ ceilings, kernels });
  }
  const shares = (isArithmetic: boolean) =>
    kernels.filter(({ gflops }) => (gflops !== undefined) === isArithmetic).map(({ share }) => share);
  const best = (values: readonly number[]) => Math.max(...values).toFixed(2);
  return {
    verdict: 'right',
    summary: `${kernels.length} cases; arithmetic up to ${best(shares(true))} of ${ceilings.instruction}’s rate, traffic up to ${best(shares(false))} of a copy’s`,
    text: rateTable(ceilings, kernels, device.driver.deviceName),
    data: { ceilings, kernels },
  };
};
