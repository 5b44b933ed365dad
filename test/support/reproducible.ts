/**
 * fast-check as tests get it (`scripts/bundleTests.js`): it tries the same cases in every run; `SLUICE_TEST_SEED=…` lets it try
 * others.
 */

import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env.SLUICE_TEST_SEED ?? 1) });

export * from 'fast-check';
export default fc;
