/** Hosts that reach the coordinator, and not each other. */

import { join } from 'node:path';
import test from 'ava';
import { freePort } from '../../launcher/src/fleet/address.ts';
import { readJournal } from '../../launcher/src/run/journal.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

test('the run names them, and goes on without one, to the same weights', async (t) => {
  const quiet = await sandbox.json<{ weightsHash: string }>('train moe.yaml --run-dir quiet --threads 1');
  const where = `tcp://127.0.0.1:${await freePort()}`;
  await sandbox.start('key run.key').ended;
  for (const rank of [1, 2]) {
    // Workers are to be reached by numbers that no machine has (RFC 5737).
    const place = `--node h${rank} --advertise 203.0.113.${rank} --slots 1`;
    sandbox.start(`agent --join ${where} --key-file run.key ${place}`);
  }
  const hosts = `--on agents --nodes 2 --listen ${where} --key-file run.key --workers 2 --threads 1`;
  const faults = '--set faults.replacementSeconds=1 --set faults.maxRestarts=1';
  const command = `launch moe.yaml ${hosts} ${faults} --run-dir apart --json`;
  const { code, stdout, stderr } = await sandbox.start(command).ended;
  t.is(code, 0, stderr);
  t.is((JSON.parse(stdout) as { weightsHash: string }).weightsHash, quiet.weightsHash);
  t.regex(stderr, /h1 and h2 do not reach each other, though all reach the coordinator/);
  t.regex(stderr, /going on without h2 for now/);
  const journal = readJournal(join(sandbox.path, 'apart', 'journal.jsonl'));
  const [restart] = journal.filter((entry) => entry.kind === 'restart');
  t.like(restart, { code: 'SLUICE_E_HOSTS_APART', workers: 1, hosts: ['h1'] });
});
