/**
 * `npm run test:tensorboard`: whether the real TensorBoard reads what Sluice writes. It needs Python with the package `tensorboard`
 * (`PYTHON` names the interpreter; `python3` otherwise); without, it says so and skips.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { skip } from './tools.js';
import { scriptWords } from './words.js';

const python = process.env.PYTHON ?? 'python3';
const TESTS = 5;

scriptWords(import.meta.url);
if (spawnSync(python, ['-c', 'import tensorboard']).status !== 0) {
  skip(`${python} has no package tensorboard (pip install tensorboard).`, TESTS);
}
await setup();
const { TensorboardSink } = await import(join(root, 'packages/observe/dist/index.js'));

const folder = mkdtempSync(join(tmpdir(), 'sluice-tensorboard-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

const record = (step, loss) => ({
  ...{ step, loss, time: `2026-01-01T00:00:${String(step).padStart(2, '0')}.000Z`, auxiliaryLoss: 0 },
  ...{ gradientNorm: 1, applied: true, learningRate: 1e-3, tokens: 100, tokensPerSecond: 100 },
  ...{ seconds: { total: 1, compute: 1, waiting: 0, communicate: 0, optimize: 0 }, peakMemoryBytes: 1 },
});
const gate = { name: 'sdpa_gate', belowTenth: 0.25, aboveNineTenths: 0, histogram: [0.25, 0.5, 0.25] };
const layer = (number) => ({
  layer: number,
  firstTokenAttention: 0.5,
  massiveActivation: 8,
  gateScoreMean: 0.5,
  gates: [gate],
});
const sink = new TensorboardSink(folder, {
  config: { name: 'a run', model: { layers: 2, tied: true } },
  isNew: true,
  now: () => 1_767_225_600,
});
const layers = [layer(0), layer(1)];
for (let step = 1; step <= 10; step++) {
  sink.step(record(step, 10 - step));
  if (step % 5 === 0)
    sink.measured({ step, firstTokenAttention: 0.5, massiveActivation: 8, gates: [gate], layers });
}
sink.wentBack(6);
for (let step = 7; step <= 8; step++) sink.step(record(step, 20));
sink.close(true);

const read = spawnSync(python, [join(root, 'test/tensorboard/read.py'), folder], { encoding: 'utf8' });
if (read.status !== 0) {
  process.stderr.write(read.stderr);
  process.stdout.write(`0 passed, ${TESTS} failed\n`);
  process.exit(1);
}
const found = JSON.parse(read.stdout);

const expected = {
  'scalars, without the steps that the run went back for': [
    found.scalars['train/loss'],
    [1, 2, 3, 4, 5, 6]
      .map((step) => [step, 10 - step])
      .concat([
        [7, 20],
        [8, 20],
      ]),
  ],
  'histograms of gate scores': [found.histograms['gates/sdpa_gate'], [10_000]],
  // One after the first measurement, one at the end.
  'pictures of layers': [
    found.images['layers/gate'],
    [
      [4, 32],
      [4, 32],
    ],
  ],
  'the configuration as text': [/"layers": 2/.test(found.texts['configuration/text_summary']), true],
  hyperparameters: [found.hyperparameters, { name: 'a run', 'model.layers': 2, 'model.tied': true }],
};
let failed = 0;
for (const [name, [actual, wanted]] of Object.entries(expected)) {
  const isRight = JSON.stringify(sorted(actual)) === JSON.stringify(sorted(wanted));
  if (!isRight) failed++;
  process.stdout.write(`${isRight ? 'ok' : 'not ok'} - ${name}\n`);
  if (!isRight) process.stdout.write(`  ${JSON.stringify(actual)}\n  ${JSON.stringify(wanted)}\n`);
}
process.stdout.write(`${TESTS - failed} passed, ${failed} failed\n`);
process.exitCode = failed > 0 ? 1 : 0;

/** Objects by their keys, so that their order does not count. */
function sorted(value) {
  return Array.isArray(value) || typeof value !== 'object' ? value : Object.entries(value).sort();
}
