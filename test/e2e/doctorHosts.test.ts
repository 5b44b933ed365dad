import test from 'ava';
import { fakeSsh } from './support/fakeSsh.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());
const ssh = fakeSsh(sandbox);

interface Checked {
  readonly ok: boolean;
  readonly links: { readonly from: string; readonly to: string; readonly failure: string | null }[];
  readonly faults: string[];
}

test.serial('hosts that can run together are connected pair by pair, both ways', async (t) => {
  sandbox.write('hosts.txt', 'h1 address=127.0.0.1\nh2 address=127.0.0.1\n');
  const { ok, links } = await sandbox.json<Checked>(`doctor --hosts hosts.txt --ssh-command ${ssh}`);
  t.true(ok);
  t.deepEqual(links.map(({ from, to, failure }) => [from, to, failure]).sort(), [
    ['h1', 'h2', null],
    ['h1', 'this host', null],
    ['h2', 'h1', null],
    ['h2', 'this host', null],
    ['this host', 'h1', null],
    ['this host', 'h2', null],
  ]);
});

test.serial('the hosts may be those of a configuration, which also says how one gets there', async (t) => {
  const list = 'list: [{ name: h1, address: 127.0.0.1 }]';
  sandbox.write('train.yaml', `extends: dense.yaml\nhosts: { on: ssh, ${list}, sshCommand: "${ssh}" }\n`);
  const { ok, links } = await sandbox.json<Checked>('doctor --hosts train.yaml');
  t.true(ok);
  t.deepEqual(links.map(({ from, to }) => [from, to]).sort(), [
    ['h1', 'this host'],
    ['this host', 'h1'],
  ]);
});

test.serial('a host that ssh does not reach, and pairs that cannot connect, are named', async (t) => {
  // An address at which one can listen, and which nobody reaches.
  sandbox.write('faulty.txt', 'h1 address=127.0.0.1\nlocked1\nh3 address=255.255.255.255\n');
  const run = await sandbox.start(`doctor --hosts faulty.txt --ssh-command ${ssh} --json`).ended;
  t.is(run.code, 1);
  const { ok, links, faults } = JSON.parse(run.stdout) as Checked;
  t.false(ok);
  t.is(faults.length, 3);
  t.regex(faults[0]!, /^locked1 cannot be looked at: its key is not the known one/);
  const pairs = faults.slice(1).sort();
  t.regex(pairs[0]!, /^h1 cannot connect to h3 at 255\.255\.255\.255: unreachable: there is no route/);
  t.regex(pairs[1]!, /^this host cannot connect to h3 at/);
  // What can be tried is tried all the same.
  t.true(links.some(({ from, to, failure }) => from === 'h3' && to === 'h1' && failure === null));
});
