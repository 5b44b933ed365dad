/** How threads wait for each other, as OpenMP itself tells when the C++ core is loaded. */

import { spawnSync } from 'node:child_process';
import { sluiceRoot } from '@sluice/core';
import { nativeBuildInfo } from '@sluice/engine';
import test from 'ava';

const LOAD = `
  const { nativeCore } = await import('@sluice/engine');
  nativeCore();
  console.log(process.env.GOMP_SPINCOUNT);
`;

function load(variables: Readonly<Record<string, string>>) {
  const { GOMP_SPINCOUNT: _, OMP_WAIT_POLICY: __, ...environment } = process.env;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', LOAD], {
    cwd: sluiceRoot,
    env: { ...environment, OMP_DISPLAY_ENV: 'verbose', ...variables },
    encoding: 'utf8',
  });
  return { spins: /GOMP_SPINCOUNT = '(\d+)'/.exec(stderr)?.[1], left: stdout.trim() };
}

const whereThreads = nativeBuildInfo().openmp ? test : test.skip;

whereThreads(
  'a waiting thread looks for others no longer than waking it takes, unless told otherwise',
  (t) => {
    const usual = load({});
    if (usual.spins === undefined) {
      t.pass('not the OpenMP of GNU');
      return;
    }
    // What processes that are started later would inherit is as it was.
    t.deepEqual(usual, { spins: '3000', left: 'undefined' });
    t.is(load({ OMP_WAIT_POLICY: 'passive' }).spins, '0');
    t.is(load({ GOMP_SPINCOUNT: '7' }).spins, '7');
  },
);
