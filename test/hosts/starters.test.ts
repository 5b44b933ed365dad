/**
 * Agents that something else starts, one on each host, as docs/clusters.md says it for each: Open MPI's mpirun, and the variables of
 * torchrun and SkyPilot; and on hosts that have IPv6 only.
 */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { Sandbox } from '../e2e/support/sandbox.ts';
import type { Ended } from '../support/running.ts';
import { Lab } from './support/lab.ts';

const PROGRAM = fileURLToPath(new URL('../../launcher/bin/sluice.js', import.meta.url));
const hasMpi = spawnSync('mpirun', ['--version']).status === 0;

let lab: Lab;
let sandbox: Sandbox;
let quietWeights: string;

test.before(async () => {
  lab = await Lab.up(2);
  sandbox = new Sandbox();
  sandbox.write('run.yaml', 'extends: dense.yaml\nparallel: { workers: 2, threads: 1 }\n');
  sandbox.write('hosts', lab.names.map((name) => `${name} slots=2\n`).join(''));
  quietWeights = (await sandbox.json<{ weightsHash: string }>('train run.yaml')).weightsHash;
});
test.after.always(async () => {
  await lab?.down();
  sandbox?.dispose();
});

/** The words of an agent, the same on all hosts. */
function agentOf(runDir: string): string[] {
  const words = ['agent', '--lead', 'run.yaml', '--run-dir', runDir, '--key-file', `${runDir}.key`];
  return [process.execPath, PROGRAM, ...words];
}

async function inHost(
  name: string,
  command: readonly string[],
  environment = {},
  where = lab,
): Promise<Ended> {
  const data = { SLUICE_DATA: `${sandbox.path}/data` };
  return where.exec(name, command, { cwd: sandbox.path, environment: { ...data, ...environment } });
}

async function sameWeights(t: ExecutionContext, runDir: string, ended: readonly Ended[]): Promise<void> {
  const said = ended.map(({ stdout, stderr }) => `${stdout}\n${stderr}`).join('\n');
  for (const { code } of ended) t.is(code, 0, said);
  // Both have done some of it, with all of their cores.
  const cores = spawnSync('nproc', { encoding: 'utf8' }).stdout.trim();
  for (const name of lab.names) t.regex(said, new RegExp(`${name} has joined \\(.*, ${cores} cores`));
  t.is((await sandbox.json<{ weights: string }>(`hash ${runDir}`)).weights, quietWeights);
}

for (const [name, variables] of [
  ['torchrun', (rank: number) => ({ MASTER_ADDR: 'h1', MASTER_PORT: '7700', NODE_RANK: rank, NNODES: 2 })],
  [
    'SkyPilot',
    (rank: number, addresses: readonly string[]) => ({
      SKYPILOT_NODE_RANK: rank,
      SKYPILOT_NUM_NODES: 2,
      SKYPILOT_NODE_IPS: addresses.join('\n'),
    }),
  ],
] as const) {
  test.serial(`agents find their place by the variables of ${name}`, async (t) => {
    t.timeout(240_000);
    const runDir = `by-${name}`;
    await sandbox.start(`key ${runDir}.key`).ended;
    const addresses = lab.names.map((host) => lab.addressOf(host));
    const ended = await Promise.all(
      lab.names.map((host, rank) => {
        const entries = Object.entries(variables(rank, addresses)).map(([key, value]) => [
          key,
          String(value),
        ]);
        return inHost(host, agentOf(runDir), Object.fromEntries(entries));
      }),
    );
    await sameWeights(t, runDir, ended);
  });
}

test.serial(
  'hosts that have IPv6 only find each other by name, and give the bits of one machine',
  async (t) => {
    t.timeout(240_000);
    const only = await Lab.up(2, 'IPv6');
    t.teardown(() => only.down());
    await sandbox.start('key by-ipv6.key').ended;
    const ended = await Promise.all(
      only.names.map((name, rank) => {
        const place = { SLUICE_JOIN: 'tcp://h1:7700', SLUICE_NODE_RANK: String(rank), SLUICE_NODES: '2' };
        return inHost(name, agentOf('by-ipv6'), place, only);
      }),
    );
    await sameWeights(t, 'by-ipv6', ended);
  },
);

(hasMpi ? test.serial : test.serial.skip)('mpirun starts an agent on each host', async (t) => {
  t.timeout(240_000);
  await sandbox.start('key by-mpirun.key').ended;
  const lines = ['--hostfile', 'hosts', '--map-by', 'ppr:1:node', '--bind-to', 'none'];
  const variables = ['-x', 'SLUICE_JOIN=tcp://h1:7700', '-x', 'SLUICE_DATA'];
  const here = [
    ...['--allow-run-as-root', '--mca', 'plm_rsh_agent', `ssh -F ${join(lab.folder, 'ssh_config')}`],
  ];
  const ended = await inHost('h1', ['mpirun', ...here, ...lines, ...variables, ...agentOf('by-mpirun')]);
  await sameWeights(t, 'by-mpirun', [ended]);
});
