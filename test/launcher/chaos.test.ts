import { readdirSync } from 'node:fs';
import test from 'ava';
import { KINDS, type Kind, MischiefPlan } from '../../launcher/src/chaos/mischief.ts';
import { verifyResume } from '../../launcher/src/chaos/verifyResume.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const drawn = (plan: MischiefPlan, count: number) => Array.from({ length: count }, () => plan.next());

test('a seed draws the same faults at the same instants, and another seed others', (t) => {
  const first = drawn(new MischiefPlan(7, KINDS, 1000), 50);
  t.deepEqual(drawn(new MischiefPlan(7, KINDS, 1000), 50), first);
  t.notDeepEqual(drawn(new MischiefPlan(8, KINDS, 1000), 50), first);
});

test('faults are of the kinds asked for, workers’ most often, within twice the mean time', (t) => {
  const kinds: Kind[] = ['killWorker', 'killCoordinator', 'freezeWorker'];
  const all = drawn(new MischiefPlan(1, kinds, 500), 2000);
  const share = (kind: Kind) => all.filter((one) => one.kind === kind).length / all.length;
  t.is(share('killAgent') + share('resize'), 0);
  t.true(Math.abs(share('killWorker') - 5 / 8) < 0.05 && Math.abs(share('freezeWorker') - 1 / 8) < 0.05);
  t.true(all.every(({ afterMs, which }) => afterMs >= 0 && afterMs <= 1000 && which >= 0 && which < 1));
  const mean = all.reduce((sum, { afterMs }) => sum + afterMs, 0) / all.length;
  t.true(Math.abs(mean - 500) < 25);
});

test.serial('of a configuration that cannot be read nothing was tried, and nothing is kept', async (t) => {
  const { TMPDIR } = process.env;
  const directory = temporaryDirectory(t);
  process.env.TMPDIR = directory;
  t.teardown(() => {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  });
  const said: string[] = [];
  const options = { config: '/nonexistent/run.yaml', kills: 1, seed: 1, agents: 0 };
  await t.throwsAsync(
    verifyResume(options, (line) => said.push(line)),
    { code: 'SLUICE_E_FILE_MISSING' },
  );
  t.deepEqual([said, readdirSync(directory)], [[], []]);
});
