/** The GPU kit as it is started, on the emulator. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const program = fileURLToPath(new URL('../../launcher/bundle/gpuKit.js', import.meta.url));
// With the kernels that other tests have compiled.
const emulated = { SLUICE_CUDA: 'emulated', SLUICE_CUDA_WATCH: 'on' };

test('steps run as processes, print what they found, and leave it in a file', async (t) => {
  const sandbox = new Sandbox(program);
  t.teardown(() => sandbox.dispose());
  const words = '--scale tiny --only torch,experts,probe --json results.json';
  const { code, stdout, stderr } = await sandbox.start(words, emulated).ended;
  t.is(code, 0, stderr);
  const { scale, isEmulated, steps } = JSON.parse(readFileSync(join(sandbox.path, 'results.json'), 'utf8'));
  t.deepEqual({ scale, isEmulated }, { scale: 'tiny', isEmulated: true });
  t.deepEqual(
    steps.map(({ step, outcome }: { step: string; outcome: string }) => `${step} ${outcome}`),
    ['probe right', 'experts right', 'torch skipped'],
  );
  const [probe, experts] = steps;
  t.is(probe.data.name, 'emulated');
  t.true(probe.data.ceilings.copyGBps > 0);
  t.is(experts.data.losses.length, 3);
  t.regex(
    stdout,
    /products by mma\.sync[\s\S]*probe: right[\s\S]*experts: right, .*: a tiny layer of experts/,
  );
});
