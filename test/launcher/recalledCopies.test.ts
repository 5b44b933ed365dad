import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { manifestText } from '@sluice/checkpoint';
import test, { type ExecutionContext } from 'ava';
import type { MemoryCopies } from '../../launcher/src/coordinator/memoryCopies.ts';
import { leaveRecord, recallCopies, type Wanted } from '../../launcher/src/coordinator/recalledCopies.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import type { Host } from '../../launcher/src/fleet/host.ts';
import type { JournalEntry } from '../../launcher/src/run/journal.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { filesOf } from './fleet/support/filesOf.ts';

const config = { optimizer: { learningRate: 1 }, parallel: { workers: 2 } };
const journal = [{ kind: 'start' }, { kind: 'save' }, { kind: 'commit' }] as JournalEntry[];

/** Three hosts, the first two of which hold a shard each of copies of steps 4 and 6, the third both. */
async function hostsWithCopies(t: ExecutionContext, journalLength = journal.length) {
  const hosts = ['a', 'b', 'c'].map((name) => {
    const directory = temporaryDirectory(t);
    return { name, directory, files: filesOf(directory, name) } as unknown as Host & { directory: string };
  });
  for (const step of [4, 6]) {
    const shards = [0, 1].map((rank) => ({
      ...{ file: `shard-0000${rank}.w.safetensors`, size: 8, headerHash: '0'.repeat(64), pieces: [] },
    }));
    for (const [i, { directory }] of hosts.entries()) {
      mkdirSync(join(directory, `step-${step}`));
      for (const [rank, { file }] of shards.entries()) {
        if (i === 2 || i === rank) writeFileSync(join(directory, `step-${step}`, file), Buffer.alloc(8));
      }
    }
    const state = { coordinator: { ...initialState({}), step }, worker: {}, datasetHash: 'd' };
    const manifest = manifestText({
      ...{ step, tensors: [], shards, config, configHash: '', probe: {} },
      state,
    });
    await leaveRecord({ step, manifest } as unknown as MemoryCopies, { run: 'r', journalLength }, hosts);
  }
  return hosts;
}

const wanted: Wanted = { run: 'r', journal, config, datasetHash: 'd', after: 2, upTo: 100 };

async function recalled(hosts: readonly Host[], changes: Partial<Wanted> = {}) {
  const said: string[] = [];
  const copies = await recallCopies(hosts, { ...wanted, ...changes }, (line) => said.push(line));
  const holders = copies?.holders.map((those) => those.map(({ name }) => name).join(''));
  return { step: copies?.step, state: copies?.state.step, holders, said };
}

test('a new coordinator finds the newest copies, their state, and who holds which part', async (t) => {
  t.like(await recalled(await hostsWithCopies(t)), { step: 6, state: 6, holders: ['ac', 'bc'], said: [] });
});

test('copies of which a part is lost with its hosts are not whole; those before them may be', async (t) => {
  const hosts = await hostsWithCopies(t);
  t.is((await recalled(hosts.slice(0, 2))).step, 6);
  t.is((await recalled(hosts.slice(0, 1))).step, undefined);
  truncateSync(join(hosts[1]!.directory, 'step-6/shard-00001.w.safetensors'), 4);
  rmSync(join(hosts[2]!.directory, 'step-6/shard-00001.w.safetensors'));
  t.is((await recalled(hosts)).step, 4);
});

test('a record that was not written to its end counts for nothing, and one of another host does', async (t) => {
  const hosts = await hostsWithCopies(t);
  for (const { directory } of hosts.slice(0, 2)) truncateSync(join(directory, 'step-6/record.json'), 100);
  t.is((await recalled(hosts)).step, 6);
  truncateSync(join(hosts[2]!.directory, 'step-6/record.json'), 100);
  t.is((await recalled(hosts)).step, 4);
});

test('only copies between the newest checkpoint and the last step asked for are of use', async (t) => {
  const hosts = await hostsWithCopies(t);
  t.is((await recalled(hosts, { upTo: 5 })).step, 4);
  t.is((await recalled(hosts, { after: 6 })).step, undefined);
});

test('copies of another run, or of a time before it went back, are not gone on from', async (t) => {
  const hosts = await hostsWithCopies(t);
  t.is((await recalled(hosts, { run: 'another' })).step, undefined);
  const after = (kind: string, more = {}) => [...journal, { kind, ...more } as JournalEntry];
  t.is((await recalled(hosts, { journal: after('resume', { checkpoint: 'c' }) })).step, undefined);
  t.is((await recalled(hosts, { journal: after('rollback') })).step, undefined);
  t.is((await recalled(hosts, { journal: after('resume', { fromMemory: true }) })).step, 6);
  t.is((await recalled(hosts, { journal: after('spike') })).step, 6);
});

test('another layout changes no number; a change that does leaves the copies alone, and says so', async (t) => {
  const hosts = await hostsWithCopies(t);
  t.is((await recalled(hosts, { config: { ...config, parallel: { workers: 4 } } })).step, 6);
  const { step, said } = await recalled(hosts, { config: { ...config, optimizer: { learningRate: 2 } } });
  t.is(step, undefined);
  t.regex(said[0]!, /copies of step 6, but optimizer\.learningRate has changed/);
  t.is((await recalled(hosts, { datasetHash: 'e' })).step, undefined);
});

test('the only machine of a run has nothing to recall', async (t) => {
  t.is((await recalled([{ name: 'this machine' } as Host])).step, undefined);
});
