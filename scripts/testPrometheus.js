/**
 * `npm run test:prometheus`: whether Prometheus' own tools accept the metrics, the alert rules and the queries of the dashboard, and
 * whether the rules fire at what they are to fire at. It needs `promtool` (Debian's package prometheus).
 */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { needTools } from './tools.js';
import { scriptWords } from './words.js';

const folder = join(root, 'docs/monitoring');

scriptWords(import.meta.url);
needTools({ promtool: 'prometheus' }, 4);
await setup();
const { RunMetrics } = await import(join(root, 'packages/observe/dist/index.js'));

const metrics = new RunMetrics({ run: 'quickstart', steps: 100, directory: root });
metrics.step({
  ...{
    step: 1,
    time: '2026-01-01T00:00:00.000Z',
    loss: 4,
    validationLoss: 4.5,
    auxiliaryLoss: 0,
    gradientNorm: 1,
  },
  ...{
    groupNorms: { head: 1 },
    applied: false,
    spike: true,
    learningRate: 1e-3,
    tokens: 100,
    tokensPerSecond: 100,
  },
  ...{ seconds: { total: 1, compute: 1, waiting: 0, communicate: 0, optimize: 0 }, peakMemoryBytes: 1 },
  expertLoad: [[0.5, 0.5]],
});
metrics.measured({
  ...{
    step: 1,
    firstTokenAttention: 0.1,
    massiveActivation: 8,
    gateScoreMean: 0.5,
    gates: [{ belowTenth: 0.2 }],
  },
  ...{ router: { deadExperts: 0 }, layers: [] },
});
metrics.wentBack(0);
metrics.processes({
  ...{ restarts: 1, savedStep: 1 },
  workers: [{ rank: 0, host: 'here', own: 1, waiting: 0, heardAgo: 1 }],
});
const text = await metrics.registry.metrics();

/** Names of ours that queries ask for, and that nobody would answer. */
function unknownNames() {
  const asked = ['grafana.json', 'alerts.yml'].flatMap(
    (file) => readFileSync(join(folder, file), 'utf8').match(/\bsluice_\w+/g) ?? [],
  );
  const agent = readFileSync(join(root, 'packages/observe/src/prometheus/hostMetrics.ts'), 'utf8');
  return [...new Set(asked)].filter((name) => !text.includes(name) && !agent.includes(`'${name}'`));
}

const unknown = unknownNames();
const tests = {
  'the metrics are as Prometheus scrapes them': promtool(['check', 'metrics'], text),
  'the alert rules are right': promtool(['check', 'rules', join(folder, 'alerts.yml')]),
  'the alerts fire at what they are to': promtool(['test', 'rules', join(folder, 'alerts.test.yml')]),
  'dashboard and rules ask for metrics that there are': unknown.length === 0 ? '' : unknown.join(', '),
};
let failed = 0;
for (const [name, problem] of Object.entries(tests)) {
  if (problem !== '') failed++;
  process.stdout.write(
    `${problem === '' ? 'ok' : 'not ok'} - ${name}\n${problem === '' ? '' : `  ${problem}\n`}`,
  );
}
process.stdout.write(`${Object.keys(tests).length - failed} passed, ${failed} failed\n`);
process.exit(failed > 0 ? 1 : 0);

/** @returns what is wrong; empty where nothing is */
function promtool(words, input = '') {
  const { status, stdout, stderr } = spawnSync('promtool', words, { input, encoding: 'utf8' });
  // Remarks on the metrics of the process that the client library names are not ours.
  return status === 0 || (status === 3 && !stderr.includes('sluice_')) ? '' : `${stdout}${stderr}`;
}
