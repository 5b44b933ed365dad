/** Makes property-based tests try the same cases in every run; `SLUICE_TEST_SEED=…` lets them try others. */

import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env.SLUICE_TEST_SEED ?? 1) });
