/** A run in characters. */

import { stripVTControlCharacters } from 'node:util';
import { type RunFrame, runFrame } from '@sluice/observe';
import test from 'ava';
import { MetricColumns } from '../../packages/observe/src/report/columns.ts';
import { record } from './support.ts';

function frame(changes: Partial<RunFrame> = {}): RunFrame {
  const columns = new MetricColumns();
  for (let step = 1; step <= 500; step++)
    columns.add(record(step, { loss: step === 250 ? 900 : 2 + 100 / step }));
  const line = (text: string, tone: 'good' | 'warning') => ({
    time: '2026-11-29T14:00:00.000Z',
    step: 1,
    tone,
    text,
  });
  return {
    ...{ name: 'a run', columns, steps: 1000, secondsLeft: 3700, width: 80, height: 24, color: false },
    facts: {
      status: { state: 'running', text: 'running' },
      story: [line('Saved.', 'good'), line(`Spike\u001b[2J: ${'long '.repeat(40)}`, 'warning')],
      workers: [{ rank: 0, host: 'gpu1', doing: 'step 500', own: 0.25, waiting: 0.01, heardAgo: 2 }],
    },
    samples: [{ step: 480, prompt: 'A dog\n', text: `\u001b[2Jis ${'an animal '.repeat(40)}` }],
    ...changes,
  };
}

test('it says how far the run is, what was decided and how the workers are, within 80 columns', (t) => {
  const lines = runFrame(frame());
  for (const line of lines) t.true(line.length <= 80, line);
  const text = lines.join('\n');
  t.regex(text, /^a run {2}running\n\[############\.{12}\] step 500 of 1,000, 50 %, 1h 02m left$/m);
  t.regex(text, /^14:00:00 {2}Spike \[2J: long .*…$/m);
  t.regex(text, /gpu1 +250 ms +10\.0 ms +2\.00 s +step 500/);
  t.false(text.includes('Saved.'));
  t.regex(text, /^written after step 480\nA dog \[2Jis an animal .*\n.*\n.*\n.*…$/m);
});

test('one outlier does not flatten the curve', (t) => {
  const labels = runFrame(frame()).flatMap((line) => /^ *(\d+\.\d\d) ?[┼┤]/.exec(line)?.[1] ?? []);
  t.true(Math.max(...labels.map(Number)) < 60, labels.join());
});

test('colours change no character; without a step there is no curve', (t) => {
  t.deepEqual(runFrame(frame({ color: true })).map(stripVTControlCharacters), runFrame(frame()));
  t.regex(
    runFrame(frame({ columns: new MetricColumns(), facts: {} })).join('\n'),
    /no step has been recorded yet/,
  );
});
