import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { type SimulateFlags, simulateRun } from '../../launcher/src/run/simulateRun.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const quickstart = fileURLToPath(new URL('../../configs/quickstart.yaml', import.meta.url));

const FLAGS: SimulateFlags = {
  ...{ devices: 64, device: 'a100', topology: 'flat', mtbf: 1000, detect: 15, restart: 120 },
  ...{ writeRate: 1, copySurvival: 0.95, days: 5, seed: 1 },
};

interface Simulated {
  readonly stepSeconds: number;
  readonly exposedShare: number;
  readonly goodput: number;
  readonly sequences: number;
  readonly sizes: { devices: number; hosts: number }[];
  readonly steps: Record<'flat' | 'hierarchical', { total: number; compute: number; communicate: number }>;
  readonly failures: { checkpoints: { goodput: number }; copies: { goodput: number; lost: number } | null };
}

async function simulated(more: Partial<SimulateFlags> = {}, config = quickstart) {
  const { result, picture } = await simulateRun(config, { ...FLAGS, ...more }, () => {});
  return { json: result.json as unknown as Simulated, text: result.text, picture };
}

test('every size from two devices on, with as much work a device, and the last as asked for', async (t) => {
  const { json, text, picture } = await simulated();
  t.deepEqual(
    json.sizes.map(({ devices, hosts }) => [devices, hosts]),
    [2, 4, 8, 16, 32, 64].map((devices) => [devices, Math.max(1, devices / 8)]),
  );
  // The quickstart has 32 sequences for two workers.
  t.is(json.sequences, 16 * 64);
  const { flat, hierarchical } = json.steps;
  t.is(json.stepSeconds, flat.total);
  t.is(json.exposedShare, flat.communicate / flat.total);
  t.true(hierarchical.total <= flat.total);
  t.true(json.goodput > 0.9 && json.goodput < 1);
  t.is(json.failures.copies, null);
  t.regex(text, /devices +hosts +flat +exposed/);
  t.is(picture.match(/<polyline/g)?.length, 6);
});

test('what is asked for otherwise counts: the batch, the topology, copies in memory', async (t) => {
  const { json } = await simulated({ batch: 256, topology: 'hierarchical', copyEvery: 60, saveEvery: 3600 });
  t.is(json.sequences, 256);
  t.is(json.stepSeconds, json.steps.hierarchical.total);
  t.true(json.failures.copies!.goodput > json.failures.checkpoints.goodput);
  t.is(json.goodput, json.failures.copies!.goodput);
});

test('more failures, checkpoints or copies than could be waited for are refused', async (t) => {
  for (const [flags, what] of [
    [{ mtbf: 1e-6 }, /7\.68e\+9 failures \(--mtbf\), and 200000 at most/],
    [{ saveEvery: 1e-3 }, /4\.32e\+8 checkpoints \(--save-every\)/],
    [{ copyEvery: 1e-3 }, /4\.32e\+8 copies in memory \(--copy-every\)/],
  ] as const)
    await t.throwsAsync(simulated(flags), { code: 'SLUICE_E_USAGE', message: what });
});

test('the speed of a run’s workers takes the place of the device’s', async (t) => {
  const run = join(temporaryDirectory(t), 'run');
  mkdirSync(run);
  cpSync(quickstart, join(run, 'config.yaml'));
  writeFileSync(join(run, 'journal.jsonl'), '');
  const line = (step: number, compute: number) =>
    JSON.stringify({
      ...{ step, time: '2026-01-01T00:00:00Z', loss: 1, auxiliaryLoss: 0, gradientNorm: 1, applied: true },
      ...{ learningRate: 1, tokens: 4096, tokensPerSecond: 1, peakMemoryBytes: 1 },
      seconds: { total: compute, compute, waiting: 0, communicate: 0, optimize: 0.01 },
    });
  writeFileSync(
    join(run, 'metrics.jsonl'),
    `${[9, 9, 2, 3, 2.5].map((compute, i) => line(i + 1, compute)).join('\n')}\n`,
  );
  const { json } = await simulated({ measured: run });
  // As many sequences for each worker as the run had.
  t.true(Math.abs(json.steps.flat.compute - 2.5) < 1e-9);
  writeFileSync(join(run, 'metrics.jsonl'), '');
  t.is((await failureOf(simulated({ measured: run }))).code, 'SLUICE_E_USAGE');
});

test('what another machine would compute needs no GPU here', async (t) => {
  const config = join(temporaryDirectory(t), 'run.yaml');
  writeFileSync(config, `extends: ${quickstart}\nbackend: cuda\n`);
  const { json } = await simulated({ devices: 2 }, config);
  t.true(json.stepSeconds > 0);
});

test('a layout that no run could have is refused', async (t) => {
  t.is((await failureOf(simulated({ devices: 48 }))).code, 'SLUICE_E_WORKERS_INVALID');
});
