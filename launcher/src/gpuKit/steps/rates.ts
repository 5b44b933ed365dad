/** The rate of every kernel, beside what the card does at most. */

import { selectBackend } from '@sluice/engine';
import { cudaBackend, type KernelRate, measureRate, ratesNamed, shareOf } from '@sluice/engine/cuda';
import { rateTable } from '../../bench/rateTable.ts';
import { casesOf } from '../cases.ts';
import { ceilingsOf } from '../ceilings.ts';
import type { OpenSeries, RunStep } from '../step.ts';

interface Facts {
  readonly card: string;
}

export const openSeries: OpenSeries = async (scale) => {
  await selectBackend('cuda');
  const { device } = cudaBackend();
  const { named } = ratesNamed(scale);
  const cases = new Map(named);
  return {
    names: [...cases.keys()],
    facts: { card: device.driver.deviceName } satisfies Facts,
    run: (name) => measureRate(device, scale, name, cases.get(name)!),
  };
};

export const runStep: RunStep = async (context) => {
  const failures: string[] = [];
  const ceilings = await ceilingsOf(context, failures);
  const kernels: KernelRate[] = [];
  let card = '';
  const cases = casesOf<Facts, KernelRate>('rates', context, {
    onFacts: (facts) => {
      card = facts.card;
    },
  });
  for await (const { name, result, failure } of cases) {
    if (result) kernels.push({ ...result, ...(ceilings && { share: shareOf(result, ceilings) }) });
    else failures.push(`${name}: ${failure}`);
    context.keep({ ...(ceilings && { ceilings }), kernels, failures });
  }
  const best = (isArithmetic: boolean) => {
    const shares = kernels.flatMap(({ gflops, share }) =>
      share !== undefined && (gflops !== undefined) === isArithmetic ? [share] : [],
    );
    return shares.length > 0 ? Math.max(...shares).toFixed(2) : '?';
  };
  const limits = ceilings
    ? `; arithmetic up to ${best(true)} of ${ceilings.instruction}’s rate, traffic up to ${best(false)} of a copy’s`
    : '';
  return {
    verdict: failures.length === 0 ? 'right' : 'wrong',
    summary: `${kernels.length} cases${limits}${failures.length > 0 ? `; ${failures.length} failed, at first ${failures[0]}` : ''}`,
    text: [rateTable(ceilings, kernels, card), ...failures].join('\n'),
    data: { ...(ceilings && { ceilings }), kernels, failures },
  };
};
