/**
 * `npm run test:kubernetes`: whether the API server of Kubernetes would take the manifests of `sluice launch --on kubernetes`, by its
 * own code, which is built once from the Go modules that Kubernetes publishes. It needs Go; without, it says so and skips.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { root, setup } from './steps.js';

/** The modules of Kubernetes ask for it. */
const OLDEST_GO = [1, 24];
const source = join(root, 'test/kubernetes/validator');
const cache = join(root, 'node_modules/.cache/sluice-kubernetes');
const validator = join(cache, 'validator');

/** Says why nothing could be tested, in the words of a test runner. */
function skip(reason, tests) {
  process.stdout.write(`Skipped: ${reason}\n0 passed, 0 failed, ${tests} skipped\n`);
  process.exit(0);
}

function goVersion() {
  const { stdout, error } = spawnSync('go', ['env', 'GOVERSION'], { encoding: 'utf8', cwd: root });
  return error ? undefined : /go(\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number);
}

/** Go itself sees whether anything has to be done. */
function build(tests) {
  const version = goVersion();
  const wanted = OLDEST_GO.join('.');
  if (version === undefined) skip(`Go is not there (version ${wanted} or newer is needed).`, tests);
  if (version[0] === OLDEST_GO[0] && version[1] < OLDEST_GO[1]) {
    skip(`Go is of version ${version.join('.')}; ${wanted} or newer is needed.`, tests);
  }
  mkdirSync(cache, { recursive: true });
  process.stderr.write('Building the validation of Kubernetes (the first time, some minutes)…\n');
  const { status } = spawnSync('go', ['build', '-trimpath', '-o', validator, '.'], {
    cwd: source,
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) {
    process.stderr.write('It could not be built.\n');
    process.exit(1);
  }
}

setup();
const { MANIFESTS } = await import('../test/kubernetes/manifests.js');
build(MANIFESTS.length);
const { status, stdout } = spawnSync(validator, {
  input: MANIFESTS.map(({ manifest }) => stringify(manifest)).join('---\n'),
  encoding: 'utf8',
  stdio: ['pipe', 'pipe', 'inherit'],
});
const verdicts = stdout
  .trim()
  .split('\n')
  .map((line) => JSON.parse(line));
if (status !== 0 || verdicts.length !== MANIFESTS.length) {
  process.stderr.write(
    `The validation ended with ${status}, after ${verdicts.length} of ${MANIFESTS.length}.\n`,
  );
  process.exit(1);
}
const results = MANIFESTS.map(
  (/** @type {{ title: string, refusal?: RegExp }} */ { title, refusal }, index) => {
    const { errors } = verdicts[index];
    const passed = refusal ? refusal.test(errors.join('\n')) : errors.length === 0;
    process.stdout.write(`${passed ? 'ok' : 'not ok'} ${refusal ? 'refused' : 'taken'}: ${title}\n`);
    if (!passed) for (const error of errors) process.stdout.write(`  ${error}\n`);
    return passed;
  },
);
const passed = results.filter(Boolean).length;
process.stdout.write(`${passed} passed, ${results.length - passed} failed\n`);
process.exitCode = passed === results.length ? 0 : 1;
