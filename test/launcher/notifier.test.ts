/** What of the journal is told to people, and how often. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Notice } from '@sluice/observe';
import { ObserveConfig, type RunConfig } from '@sluice/train';
import test from 'ava';
import { Notifier, openNotifier, openNotifierIfPossible } from '../../launcher/src/coordinator/notifier.ts';
import { openJournal, readJournal } from '../../launcher/src/run/journal.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

const event = { step: 7, signal: 'loss', value: 9.5, median: 3, excess: 6.5, score: 12 } as const;

test('what is asked for is told once it is in the journal; spikes that follow one are counted', async (t) => {
  const path = join(temporaryDirectory(t), 'journal.jsonl');
  const told: Notice[] = [];
  let now = 0;
  const messenger = {
    send: (notice: Notice) => {
      told.push(notice);
    },
    close: async () => {},
  };
  const events = new Set(['spike', 'end'] as const);
  const notifier = new Notifier('a run', [{ events, quietMs: 100, messenger }], () => now);
  const journal = notifier.listenTo(openJournal(path));
  journal.append('save', 5, { path: 'checkpoints/step-00000005' });
  for (const at of [0, 50, 99, 150]) {
    now = at;
    journal.note('spike', 7 + at, { event: { ...event, step: 7 + at }, skipped: true });
  }
  journal.note('stop', 200, { reason: 'finished' });
  t.is(journal.length, 6);
  journal.close();
  await notifier.close();
  t.is(readJournal(path).length, 6);
  t.deepEqual(
    told.map(({ event: name, step, isBad }) => [name, step, isBad]),
    [
      ['spike', 7, true],
      ['spike', 157, true],
      ['end', 200, false],
    ],
  );
  t.regex(told[1]!.text, / 2 more were not told since the one before\.$/);
});

const withNotify = (notify: object) =>
  ({ name: 'a', observe: ObserveConfig.parse({ notify: [notify] }) }) as unknown as RunConfig;

test('addresses come from files or variables; a new run does without none, one that goes on does', async (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'hook');
  writeFileSync(file, 'http://127.0.0.1:9/secret\n');
  t.notThrows(() => openNotifier(directory, withNotify({ urlFile: file }), () => {}));
  const open = (notify: object) =>
    failureOf(Promise.resolve().then(() => openNotifier(directory, withNotify(notify), () => {})));
  t.is((await open({ urlFile: join(directory, 'none') })).code, 'SLUICE_E_FILE_MISSING');
  t.is((await open({ urlVariable: 'SLUICE_NO_SUCH_VARIABLE' })).code, 'SLUICE_E_USAGE');
  writeFileSync(file, 'file:///etc/passwd');
  const { message } = await open({ urlFile: file });
  t.regex(message, /holds no address of a server/);
  t.false(message.includes('passwd'));
  const lines: string[] = [];
  openNotifierIfPossible(directory, withNotify({ urlVariable: 'SLUICE_NO_SUCH_VARIABLE' }), (line) =>
    lines.push(line),
  );
  t.regex(lines.join(), /nobody is told/);
  t.false(ObserveConfig.safeParse({ notify: [{ url: 'http://x' }] }).success);
  t.false(ObserveConfig.safeParse({ notify: [{}] }).success);
});
