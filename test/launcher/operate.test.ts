import { chmodSync, copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openLocalDesk } from '../../launcher/src/fleet/desk.ts';
import { askCoordinator } from '../../launcher/src/operate/askCoordinator.ts';
import { findCoordinator } from '../../launcher/src/operate/liveRun.ts';
import { runsBelow } from '../../launcher/src/operate/runsBelow.ts';
import { type Contact, readContact, removeContact, writeContact } from '../../launcher/src/run/contact.ts';
import { acquireLock } from '../../launcher/src/run/lock.ts';
import { ownIdentity } from '../../launcher/src/run/processIdentity.ts';
import { runDirectory } from '../../launcher/src/run/runDirectory.ts';
import { pathOfToken, runToken } from '../../launcher/src/run/runToken.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const REPORT = {
  run: '/runs/a',
  token: 'a:/runs/a',
  coordinator: { host: 'here', pid: 1, runningMs: 5 },
  doing: 'step 3',
  step: 2,
  steps: 10,
  savedStep: null,
  stopping: null,
  restarts: 0,
  lastFault: null,
  hosts: [],
  workers: [{ rank: 0, host: 'here', pid: 2, doing: 'step 3' }],
};

async function desk(t: ExecutionContext) {
  const asked: string[] = [];
  const opened = await openLocalDesk({ report: () => REPORT, stop: (reason) => asked.push(reason) });
  t.teardown(() => opened.close());
  const contact: Contact = { ...ownIdentity(), run: REPORT.token, endpoints: [...opened.endpoints] };
  return { asked, opened, contact };
}

test('whoever may enter the directory of the socket is told of the run, and may stop it', async (t) => {
  const { asked, contact } = await desk(t);
  t.deepEqual(await askCoordinator(contact, 'ps'), REPORT);
  t.deepEqual(asked, []);
  t.deepEqual(await askCoordinator(contact, 'stop'), REPORT);
  t.deepEqual(asked, ['sluice stop']);
});

test('one that does not answer, and one of another run, is silent', async (t) => {
  const { contact, opened } = await desk(t);
  const other = await failureOf(askCoordinator({ ...contact, run: 'b:/runs/b' }, 'ps', 500));
  t.is(other.code, 'SLUICE_E_COORDINATOR_SILENT');
  opened.close();
  const closed = await failureOf(askCoordinator(contact, 'ps', 200));
  t.is(closed.code, 'SLUICE_E_COORDINATOR_SILENT');
  t.regex(closed.message, new RegExp(`process ${process.pid} on ${hostname()}`));
});

test('a run is asked by the contact of the very process that owns it', async (t) => {
  const run = runDirectory(temporaryDirectory(t));
  t.is(await findCoordinator(run), undefined);
  const lock = acquireLock(run.lock);
  const contact: Contact = { ...ownIdentity(), run: 'a:/a', endpoints: ['ipc:///nowhere'] };
  writeContact(run.contact, { ...contact, started: 'earlier' });
  t.is((await failureOf(findCoordinator(run, 0))).code, 'SLUICE_E_COORDINATOR_SILENT');
  writeContact(run.contact, contact);
  t.deepEqual((await findCoordinator(run))?.contact, contact);
  lock.release();
  t.is(await findCoordinator(run), undefined);
});

test('a contact that cannot be put into its place leaves nothing, since it holds a key', (t) => {
  const folder = temporaryDirectory(t);
  mkdirSync(join(folder, 'contact.json'));
  const contact: Contact = { ...ownIdentity(), run: 'a:/a', endpoints: [] };
  t.throws(() => writeContact(join(folder, 'contact.json'), contact), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  t.deepEqual(readdirSync(folder), ['contact.json']);
});

test('a copy of a run that goes on is not that run', async (t) => {
  const [run, copy] = [runDirectory(temporaryDirectory(t)), runDirectory(temporaryDirectory(t))];
  const lock = acquireLock(run.lock);
  t.teardown(() => lock.release());
  const contact: Contact = { ...ownIdentity(), run: runToken(run.path, 'a'), endpoints: ['ipc:///x'] };
  writeContact(run.contact, contact);
  for (const file of ['lock', 'contact'] as const) copyFileSync(run[file], copy[file]);
  t.not(await findCoordinator(run), undefined);
  t.is(await findCoordinator(copy), undefined);
});

test('a coordinator of another machine is asked where it has an address, and named where it has none', async (t) => {
  const run = runDirectory(temporaryDirectory(t));
  const owner = { pid: 7, host: 'elsewhere', started: 'then', token: 't' };
  writeFileSync(run.lock, JSON.stringify(owner));
  const contact = { pid: 7, host: 'elsewhere', started: 'then', run: 'a:/a' };
  writeContact(run.contact, { ...contact, endpoints: ['ipc:///tmp/x'] });
  const error = await failureOf(findCoordinator(run));
  t.is(error.code, 'SLUICE_E_COORDINATOR_ELSEWHERE');
  t.regex(error.message, /process 7 on elsewhere/);
  writeContact(run.contact, { ...contact, endpoints: ['tcp://10.0.0.1:7700'] });
  t.is((await findCoordinator(run))?.owner.host, 'elsewhere');
});

test('a process removes its own contact, and no later one', (t) => {
  const { contact: path } = runDirectory(temporaryDirectory(t));
  const contact: Contact = { ...ownIdentity(), run: 'a:/a', endpoints: [] };
  writeContact(path, { ...contact, pid: process.pid + 1 });
  removeContact(path);
  t.is(readContact(path)?.pid, process.pid + 1);
  writeContact(path, contact);
  removeContact(path);
  t.is(readContact(path), undefined);
});

test('a copy of a run has another token, whose path can be read', (t) => {
  const [a, b] = [temporaryDirectory(t), temporaryDirectory(t)];
  t.not(runToken(a, 'x'), runToken(b, 'x'));
  t.is(pathOfToken(runToken(a, 'x')), a);
  t.is(pathOfToken(runToken(a, '2026-01-01T00:00:00.000Z')), a);
});

test('a folder that may not be read keeps no other run from being found', (t) => {
  const root = temporaryDirectory(t);
  chmodSync(root, 0o755);
  for (const name of ['closed', 'mine']) mkdirSync(join(root, name));
  writeFileSync(join(root, 'mine', 'journal.jsonl'), '');
  chmodSync(join(root, 'closed'), 0);
  const isRoot = process.geteuid!() === 0;
  // Root may read everything; `nobody` may not.
  if (isRoot) process.seteuid!(65_534);
  try {
    t.deepEqual(runsBelow(root), [join(root, 'mine')]);
  } finally {
    if (isRoot) process.seteuid!(0);
    chmodSync(join(root, 'closed'), 0o755);
  }
});
