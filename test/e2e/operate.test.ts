import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import test from 'ava';
import { runProcesses } from '../../launcher/src/operate/runProcesses.ts';
import { readJournal } from '../../launcher/src/run/journal.ts';
import { runId, runToken } from '../../launcher/src/run/runToken.ts';
import { fakeSsh } from './support/fakeSsh.ts';
import { isGone, workersOf } from './support/processes.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
const others: ChildProcess[] = [];
test.after.always(() => {
  for (const child of others) child.kill('SIGKILL');
  sandbox.dispose();
});

/** Never comes to its end by itself. */
const ENDLESS = '--set training.steps=1000000 evaluation.everySteps=0 diagnostics.everySteps=0';
const ssh = fakeSsh(sandbox);
sandbox.write('hosts.txt', 'h1 slots=2 address=127.0.0.1\nh2 slots=2 address=127.0.0.1\n');

interface Report {
  readonly alive: boolean;
  readonly step: number;
  readonly token: string;
  readonly coordinator: { readonly pid: number };
  readonly hosts: { readonly name: string; readonly agent: number }[];
  readonly workers: { readonly rank: number; readonly host: string; readonly pid: number; doing: string }[];
}

interface Failed {
  readonly error: { readonly code: string; readonly message: string };
}

async function failure(command: string): Promise<Failed['error']> {
  const { code, stdout } = await sandbox.start(`${command} --json`).ended;
  if (code === 0) throw new Error(`sluice ${command} did not fail: ${stdout}`);
  return (JSON.parse(stdout) as Failed).error;
}

test.serial('a run on this machine is listed, told of, and stopped with a checkpoint', async (t) => {
  const run = join(sandbox.path, 'runs/here');
  const training = sandbox.start(`train dense.yaml --workers 2 --run-dir runs/here ${ENDLESS}`);
  await training.shown('saved step 4');
  t.is(statSync(join(run, 'contact.json')).mode & 0o777, 0o600);

  const { runs } = await sandbox.json<{ runs: Record<string, unknown>[] }>('ps');
  const listed = runs.find(({ path }) => path === run);
  t.like(listed, { state: 'alive', pid: training.child.pid, workers: 2 });

  let report = await sandbox.json<Report>('ps runs/here');
  // What workers do is known by their heartbeats, of which four steps may not have seen the second.
  while (report.workers[1]!.doing === 'starting') report = await sandbox.json<Report>('ps runs/here');
  t.true(report.alive && report.step >= 4);
  t.deepEqual(report.workers.map(({ pid }) => pid).sort(), workersOf(training.child.pid!).sort());
  t.regex(report.workers[1]!.doing, /^(step \d+|idle|examining|saving)/);

  const stopped = await sandbox.json<{ savedStep: number; wasRunning: boolean }>('stop runs/here');
  t.true(stopped.wasRunning);
  const { code, stderr } = await training.ended;
  t.is(code, 0);
  t.regex(stderr, new RegExp(`saved step ${stopped.savedStep}: `));
  t.false(existsSync(join(run, 'contact.json')));

  const after = await sandbox.json<Report>('ps runs/here');
  t.like(after, { alive: false, step: stopped.savedStep });
  t.like(await sandbox.json('stop runs/here'), { wasRunning: false, savedStep: stopped.savedStep });
});

test.serial(
  'a run over ssh is told of by hosts, its processes carry its token, and it stops everywhere',
  async (t) => {
    const launched = sandbox.start(
      `launch dense.yaml --on ssh:hosts.txt --ssh-command ${ssh} --listen tcp://127.0.0.1:0 --workers 4 --run-dir runs/far ${ENDLESS}`,
    );
    await launched.shown('saved step 4');
    const report = await sandbox.json<Report>('ps runs/far');
    t.deepEqual(
      report.workers.map(({ rank, host }) => [rank, host]),
      [
        [0, 'h1'],
        [1, 'h1'],
        [2, 'h2'],
        [3, 'h2'],
      ],
    );
    const carrying = runProcesses(report.token);
    t.deepEqual(
      carrying
        .filter(({ what }) => what === 'worker')
        .map(({ rank, pid }) => [rank, pid])
        .sort(),
      report.workers.map(({ rank, pid }) => [rank, pid]),
    );
    const agents = report.hosts.map(({ agent }) => agent);
    t.deepEqual(
      carrying
        .filter(({ what }) => what === 'agent')
        .map(({ pid }) => pid)
        .sort(),
      agents.sort(),
    );

    // Where its processes are, and how one gets there, the run knows by its configuration.
    const { hosts } = await sandbox.json<{ hosts: { host: string; processes: { pid: number }[] }[] }>(
      'ps runs/far --hosts',
    );
    t.deepEqual(
      hosts.map(({ host }) => host),
      ['h1', 'h2'],
    );
    // Both are this machine.
    t.deepEqual(hosts[0]!.processes.map(({ pid }) => pid).sort(), carrying.map(({ pid }) => pid).sort());
    const stopped = await sandbox.json<{ savedStep: number }>('stop runs/far --hosts');
    t.true(stopped.savedStep >= report.step);
    // A person stopped it: a scheduler is not to start it again.
    t.is((await launched.ended).code, 0);
    t.deepEqual(runProcesses(report.token), []);
  },
);

test.serial(
  'a run that waits for hosts is told of, and stopped so that no scheduler starts it again',
  async (t) => {
    const launched = sandbox.start(
      `launch dense.yaml --on agents --nodes 2 --listen tcp://127.0.0.1:0 --run-dir runs/waiting ${ENDLESS}`,
    );
    while (!existsSync(join(sandbox.path, 'runs/waiting/contact.json'))) await delay(50);
    const report = await sandbox.json<Report & { doing: string }>('ps runs/waiting');
    t.like(report, {
      alive: true,
      step: 0,
      hosts: [],
      workers: [],
      doing: 'bringing hosts and workers together',
    });
    const stopped = await sandbox.json('stop runs/waiting');
    t.like(stopped, { wasRunning: true, savedStep: null });
    const { code, stderr } = await launched.ended;
    t.is(code, 2);
    t.regex(stderr, /Asked to stop by sluice stop before all hosts had come/);
  },
);

test.serial(
  'what a killed coordinator left is found by its token and ended, and nothing else is',
  async (t) => {
    const run = join(sandbox.path, 'runs/killed');
    const training = sandbox.start(`train dense.yaml --run-dir runs/killed ${ENDLESS}`);
    await training.shown('saved step 4');
    training.child.kill('SIGKILL');
    await training.ended;
    for (const command of ['ps runs/killed', 'stop runs/killed']) {
      const { code, message } = await failure(command);
      t.is(code, 'SLUICE_E_COORDINATOR_GONE');
      t.regex(
        message,
        new RegExp(`process ${training.child.pid} on .*, which is gone. To go on: sluice resume`),
      );
    }

    const token = runToken(run, runId(readJournal(join(run, 'journal.jsonl')))!);
    // One that does as it is asked, one that does not, and one of another run at the same place.
    const polite = carry(token, 'setInterval(() => {}, 1000)');
    const stubborn = carry(
      token,
      'process.on("SIGTERM", () => {}); console.log("on"); setInterval(() => {}, 1000)',
    );
    const stranger = carry(`other:${run}`, 'setInterval(() => {}, 1000)');
    await new Promise((resolve) => stubborn.stdout!.once('data', resolve));
    sandbox.write('one.txt', 'h1\n');
    const found = await sandbox.json<{ hosts: { processes: { pid: number }[] }[] }>(
      `ps runs/killed --hosts one.txt --ssh-command ${ssh}`,
    );
    const pids = [polite.pid!, stubborn.pid!];
    t.deepEqual(found.hosts[0]!.processes.map(({ pid }) => pid).sort(), pids.sort());

    const stopped = await sandbox.json<{ hosts: { ended: { pid: number }[] }[]; savedStep: number }>(
      `stop runs/killed --hosts one.txt --ssh-command ${ssh}`,
    );
    t.deepEqual(stopped.hosts[0]!.ended.map(({ pid }) => pid).sort(), pids.sort());
    t.true(await isGone(polite.pid!));
    t.true(await isGone(stubborn.pid!));
    t.true(existsSync(`/proc/${stranger.pid}`));

    sandbox.write('locked.txt', 'locked1\n');
    const refused = await failure(`stop runs/killed --hosts locked.txt --ssh-command ${ssh}`);
    t.is(refused.code, 'SLUICE_E_PROCESSES_LEFT');
    t.regex(refused.message, /locked1: .*its key is not the known one/);
    t.regex(readFileSync(join(run, 'journal.jsonl'), 'utf8'), /"id":"[0-9a-f]{12}"/);
  },
);

/** A process that carries a run's token. */
function carry(token: string, program: string): ChildProcess {
  const child = spawn(process.execPath, ['-e', program], {
    env: { ...process.env, SLUICE_RUN: token },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  others.push(child);
  return child;
}
