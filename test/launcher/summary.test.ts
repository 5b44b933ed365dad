import { appendFileSync, existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { checkpointDirectory } from '@sluice/checkpoint';
import { ObserveConfig } from '@sluice/train';
import test from 'ava';
import { prepareCorpora } from '../../launcher/src/coordinator/corpora.ts';
import { initialState } from '../../launcher/src/coordinator/state.ts';
import { concludeRun } from '../../launcher/src/coordinator/summary.ts';
import type { SessionOutcome } from '../../launcher/src/coordinator/underway.ts';
import { inspectRun } from '../../launcher/src/run/inspect.ts';
import { openJournal } from '../../launcher/src/run/journal.ts';
import { makeSavedRun, type SavedRun } from './support/savedRun.ts';

/** Concludes a run that stopped at its newest checkpoint. */
async function conclude(
  { run, config }: SavedRun,
  checkpoint: { path: string; weights: string },
  reason: SessionOutcome['reason'],
) {
  const corpora = await prepareCorpora(config.data, () => {});
  const state = {
    ...initialState({ loss: [], gradientNorm: [] }),
    step: 10,
    trainLoss: 5,
    validationLoss: 4.5,
  };
  const parameters = { total: 10, active: 5 };
  const saved = { ...checkpoint, step: 10 };
  return concludeRun(
    { run, config, corpora },
    { reason, isStopFinal: false, state, checkpoint: saved, tokensPerSecond: 1, parameters },
  );
}

test.serial('a finished run from which nothing can be sampled says why, and ends well', async (t) => {
  const saved = await makeSavedRun(t);
  const checkpoint = await saved.save(10);
  const sampled = await conclude(saved, checkpoint, 'finished');
  t.like(sampled.json.sample, { prompt: 'A dog is' });
  t.notRegex(sampled.text.replaceAll('\n', ''), /\p{Cc}/u, 'nothing that a terminal would obey');
  appendFileSync(join(saved.run.tokenizer, 'tokenizer.json'), ' ');
  const { text, json } = await conclude(saved, checkpoint, 'finished');
  t.regex(text, /^finished\n(.*\n)* {2}sample +none: .*tokenizer/);
  t.like(json, { finished: true, report: saved.run.report });
  t.false('sample' in json);
});

test.serial('a run that is to go on with no text writes none when it has finished', async (t) => {
  const saved = await makeSavedRun(t);
  const checkpoint = await saved.save(10);
  const observe = ObserveConfig.parse({ samples: { prompts: [] } });
  const { text, json } = await conclude(
    { ...saved, config: { ...saved.config, observe } },
    checkpoint,
    'finished',
  );
  t.notRegex(text, / sample /);
  t.false('sample' in json);
  t.false(existsSync(saved.run.samples));
  const { error } = ObserveConfig.safeParse({ samples: { everySteps: 5, prompts: [] } });
  t.deepEqual(error?.issues[0]?.path, ['samples', 'prompts']);
});

test.serial('a signal that comes while a run is concluded ends nothing', async (t) => {
  const saved = await makeSavedRun(t);
  const checkpoint = await saved.save(10);
  let isOver = false;
  const concluded = conclude(saved, checkpoint, 'finished').finally(() => {
    isOver = true;
  });
  while (process.listenerCount('SIGTERM') === 0 && !isOver) await nextTurn();
  t.false(isOver, 'nobody listens');
  process.kill(process.pid, 'SIGTERM');
  t.like((await concluded).json, { finished: true, report: saved.run.report });
  t.is(process.listenerCount('SIGTERM'), 0);
});

test.serial(
  'checkpoints that are not gone on from, or not what their name says, are told as such',
  async (t) => {
    const saved = await makeSavedRun(t);
    const { run, save } = saved;
    await save(2);
    const checkpoint = await save(4);
    const journal = openJournal(run.journal);
    journal.append('stop', 14, { reason: 'nonFinite', firstStep: 5 });
    journal.close();
    await conclude(saved, checkpoint, 'lastStep');
    const report = () => readFileSync(run.report, 'utf8');
    t.regex(report(), /step-00000004<.*not gone on from/s);
    t.notRegex(report(), />damaged</);
    renameSync(checkpointDirectory(run.path, 2), checkpointDirectory(run.path, 3));
    await conclude(saved, checkpoint, 'lastStep');
    t.regex(report(), /step-00000003<.*damaged/s);
    const { text } = await inspectRun(run.path);
    t.regex(text, /step 3: not valid: its manifest is of step 2, its directory of step 3/);
  },
);
