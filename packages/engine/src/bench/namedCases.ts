/** Which of the cases of a benchmark are asked for. */

import { SluiceError } from '@sluice/core';

/**
 * Those whose name contains `filter`.
 * @throws SLUICE_E_USAGE where there is none
 */
export function namedCases<Case>(cases: Readonly<Record<string, Case>>, filter: string): [string, Case][] {
  const all = Object.entries(cases);
  const named = all.filter(([name]) => name.includes(filter));
  if (named.length > 0) return named;
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `None of the ${all.length} kernels has "${filter}" in its name (--filter). Without it all are measured, and named.`,
  );
}
