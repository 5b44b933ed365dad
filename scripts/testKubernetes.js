/**
 * `npm run test:kubernetes`: whether the API server of Kubernetes would take the manifests of `sluice launch --on kubernetes`, by its
 * own code, which is built once from the Go modules that Kubernetes publishes. With `-- --cluster` (Linux, as root) these modules give
 * a whole cluster, of two nodes with kubelets in hosts made of namespaces, and runs are launched on it (`test/kubernetes/cluster`);
 * what else that needs is installed on Debian. Without Go, or what else it cannot have, it says so and skips.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { root, run, setup } from './steps.js';
import { LAB_TOOLS, needNamespaces, needTools, PROGRAM_FOLDERS, skip } from './tools.js';
import { scriptWords, showHelp } from './words.js';

/** The modules of Kubernetes ask for it. */
const OLDEST_GO = [1, 24];
const KUBERNETES = '1.34.4';
const folder = join(root, 'test/kubernetes');
const cache = join(root, 'node_modules/.cache/sluice-kubernetes');
const CLUSTER_TESTS = 3;
const CLUSTER_TOOLS = {
  ...LAB_TOOLS,
  etcd: 'etcd-server',
  containerd: 'containerd',
  ctr: 'containerd',
  runc: 'runc',
  busybox: 'busybox-static',
  openssl: 'openssl',
};

/** Skips where Go is missing or too old. */
function needGo(tests) {
  const { stdout, error } = spawnSync('go', ['env', 'GOVERSION'], { encoding: 'utf8', cwd: root });
  const version = error ? undefined : /go(\d+)\.(\d+)/.exec(stdout)?.slice(1).map(Number);
  const wanted = OLDEST_GO.join('.');
  if (version === undefined) skip(`Go is not there (version ${wanted} or newer is needed).`, tests);
  if (version[0] === OLDEST_GO[0] && version[1] < OLDEST_GO[1]) {
    skip(`Go is of version ${version.join('.')}; ${wanted} or newer is needed.`, tests);
  }
}

/**
 * Builds programs into the cache; Go itself sees whether anything has to be done.
 * @param {string} what for the one who waits
 * @param {string} module folder of the Go module
 * @param {string[]} words of `go build`
 */
function build(what, module, words) {
  mkdirSync(cache, { recursive: true });
  process.stderr.write(`Building ${what}…\n`);
  const { status } = spawnSync('go', ['build', '-trimpath', '-o', `${cache}/`, ...words], {
    cwd: join(folder, module),
    env: { ...process.env, CGO_ENABLED: '0' },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status === 0) return;
  process.stderr.write('It could not be built.\n');
  process.exit(1);
}

/** Ends with ava's code. */
function testCluster() {
  needNamespaces('test:kubernetes -- --cluster', CLUSTER_TESTS);
  needGo(CLUSTER_TESTS);
  needTools(CLUSTER_TOOLS, CLUSTER_TESTS);
  // It has no program in the path.
  needTools({ '../lib/cni/bridge': 'containernetworking-plugins' }, CLUSTER_TESTS);
  setup();
  const [major, minor] = KUBERNETES.split('.');
  const version = { gitVersion: `v${KUBERNETES}`, gitMajor: major, gitMinor: minor };
  const told = Object.entries(version).map(
    ([key, value]) => `-X k8s.io/component-base/version.${key}=${value}`,
  );
  const programs = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet', 'kubectl'];
  build('a cluster of Kubernetes (the first time, ten minutes of a processor)', 'cluster', [
    // They are built sooner without what makes them small and fast.
    ...['-gcflags=all=-N -l -dwarf=false', `-ldflags=-s -w ${told.join(' ')}`],
    ...programs.map((program) => `k8s.io/kubernetes/cmd/${program}`),
  ]);
  const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs');
  const words = process.argv.slice(2).filter((word) => word !== '--cluster');
  const code = run(process.execPath, [ava, '--config', 'ava.kubernetes.config.js', ...words], {
    env: { ...process.env, PATH: PROGRAM_FOLDERS.join(':'), SLUICE_KUBERNETES_PROGRAMS: cache },
  });
  process.exit(code);
}

showHelp(import.meta.url);
if (process.argv.includes('--cluster')) testCluster();
scriptWords(import.meta.url);
setup();
const { MANIFESTS } = await import('../test/kubernetes/manifests.js');
needGo(MANIFESTS.length);
build('the validation of Kubernetes (the first time, some minutes)', 'validator', ['.']);
const { status, stdout } = spawnSync(join(cache, 'validator'), {
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
