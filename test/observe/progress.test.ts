import { execFileSync } from 'node:child_process';
import { stripVTControlCharacters } from 'node:util';
import { ProgressDisplay } from '@sluice/observe';
import test from 'ava';
import { CapturedStream, record } from './support.ts';

const HIDE_CURSOR = '\u001b[?25l';
const SHOW_CURSOR = '\u001b[?25h';

const expertLoad = [[0.25, 0.125, 0.5, 0.125]];

function plainDisplay(options: { plainEverySteps?: number; plainEverySeconds?: number } = {}) {
  const stream = new CapturedStream(false);
  const clock = { seconds: 0 };
  const display = new ProgressDisplay({ totalSteps: 100, stream, now: () => clock.seconds, ...options });
  return { stream, clock, display };
}

test('off a terminal each line says where the run is', (t) => {
  const { stream, clock, display } = plainDisplay({ plainEverySteps: 1 });
  clock.seconds = 3;
  display.step(record(1, { loss: 9.0123, expertLoad }));
  clock.seconds = 4.5;
  display.step(record(2, { loss: 8.5, validationLoss: 8.6, spike: true }));
  display.step(record(3, { loss: Number.NaN, gradientNorm: Number.POSITIVE_INFINITY, applied: false }));
  display.end();
  t.is(
    stream.text,
    [
      'step   1/100  loss 9.0123  norm 0.52  rate 1.86e-3  5,210 tokens/s  max violation 1.00',
      'step   2/100  loss 8.5000  validation 8.6000  norm 0.52  rate 1.86e-3  5,210 tokens/s  spike  2m 27s left',
      'step   3/100  loss –  norm –  rate 1.86e-3  5,210 tokens/s  update skipped  1m 13s left',
      '',
    ].join('\n'),
  );
});

test('off a terminal lines come at fixed steps, after a while, at the end, and when something happens', (t) => {
  const { stream, clock, display } = plainDisplay({ plainEverySteps: 50, plainEverySeconds: 10 });
  for (let step = 1; step <= 100; step++) {
    clock.seconds += step === 20 ? 11 : 0.01;
    display.step(record(step, step === 33 ? { validationLoss: 5 } : {}));
  }
  const steps = [...stream.text.matchAll(/^step +(\d+)/gm)].map((match) => Number(match[1]));
  t.deepEqual(steps, [1, 20, 33, 50, 100]);
});

test('off a terminal nothing is ever redrawn, coloured or hidden', (t) => {
  const { stream, display } = plainDisplay();
  display.status('validating');
  display.step(record(1));
  display.validation(1, 4.25);
  display.message('saved checkpoint\nat step 1', 'good');
  display.end();
  t.false(stream.text.includes('\u001b'));
  t.regex(stream.text, /\nstep {3}1\/100 {2}validation 4\.2500\n✓ saved checkpoint\n {2}at step 1\n$/);
});

test('on a terminal the block shows all there is to know, within the width', (t) => {
  const stream = new CapturedStream(true);
  const clock = { seconds: 0 };
  const display = new ProgressDisplay({ totalSteps: 200, stream, color: false, now: () => clock.seconds });
  display.step(record(99, { expertLoad }));
  clock.seconds = 2;
  display.step(record(100, { expertLoad, validationLoss: 4.6, spike: true }));
  display.end();
  const shown = stripVTControlCharacters(stream.text);
  const block = shown.slice(shown.lastIndexOf('step     100/200')).trimEnd().split('\n');
  t.deepEqual(block, [
    'step     100/200  ━━━━━━━━━━━━━━━━━━━━━━━━───────────────────────  50 %   3m 20s left · 2 s so far',
    'loss     4.5000   validation 4.6000 at 100   gradient norm 0.52   rate 1.86e-3',
    'speed    5,210 tokens/s   step 1.24 s   memory 812 MiB   spikes 1',
    'experts  ▄▂█▂   max violation 1.00',
  ]);
  t.true(block.every((line) => line.length < stream.columns));
});

const shownAtLast = (stream: CapturedStream, from: string) => {
  const shown = stripVTControlCharacters(stream.text);
  return shown.slice(shown.lastIndexOf(from)).trimEnd().split('\n');
};

test('of a run on several hosts the block shows each, who is missing, and what ended workers last', (t) => {
  const stream = new CapturedStream(true);
  const display = new ProgressDisplay({ totalSteps: 200, stream, color: false });
  display.step(record(99));
  const hosts = [
    { name: 'h1', seconds: 0.85 },
    { name: 'h2', seconds: 1.25 },
  ];
  display.fleet({ hosts, missing: ['h3'], restarts: 1, lastFault: 'Worker 4 (on h3)\nended' });
  display.end();
  t.deepEqual(shownAtLast(stream, 'hosts '), [
    'hosts    missing h3   h1 850 ms   h2 1.25 s',
    'faults   1 restart; the last one: Worker 4 (on h3) ended',
  ]);
});

test('of many hosts the slowest are shown', (t) => {
  const stream = new CapturedStream(true);
  const display = new ProgressDisplay({ totalSteps: 200, stream, color: false });
  display.step(record(99));
  const hosts = Array.from({ length: 64 }, (_, i) => ({ name: `n${i}`, seconds: 1 + (i % 50) / 10 }));
  display.fleet({ hosts, missing: ['a', 'b', 'c', 'd', 'e'], restarts: 0 });
  display.end();
  t.deepEqual(shownAtLast(stream, 'hosts '), [
    'hosts    64, slowest:   missing a, b, c and 2 more   n49 5.90 s   n48 5.80 s   n47 5.70 s',
  ]);
});

test('on a narrow terminal fields are left out instead of wrapped', (t) => {
  const stream = new CapturedStream(true);
  stream.columns = 40;
  const display = new ProgressDisplay({ totalSteps: 200, stream, color: false });
  display.step(record(100, { expertLoad, validationLoss: 4.6 }));
  display.end();
  const lines = stripVTControlCharacters(stream.text).trimEnd().split('\n');
  t.is(lines.length, 4);
  t.regex(lines[0]!, /^step {5}100\/200 {2}50 % /);
  t.true(lines.every((line) => line.length < 40));
});

test('the cursor is hidden while the block lives and given back once', (t) => {
  const stream = new CapturedStream(true);
  const display = new ProgressDisplay({ totalSteps: 10, stream });
  display.step(record(1));
  t.true(stream.text.startsWith(HIDE_CURSOR));
  t.false(stream.text.includes(SHOW_CURSOR));
  display.end();
  display.end();
  t.is(stream.text.split(SHOW_CURSOR).length, 2);
  const after = stream.text;
  display.step(record(2));
  display.status('late');
  t.is(stream.text, after);
  display.message('bye');
  t.regex(stream.text.slice(after.length), /bye\n$/);
});

test('many steps at once redraw the block only once, and the last state is what stays', (t) => {
  const stream = new CapturedStream(true);
  const display = new ProgressDisplay({ totalSteps: 1000, stream, color: false });
  for (let step = 1; step <= 100; step++) display.step(record(step));
  t.true(stripVTControlCharacters(stream.text).split('gradient norm').length - 1 <= 3);
  display.end();
  t.regex(stream.text, /100\/1000/);
});

test('messages stay above the block, and cannot move the cursor or clear the screen', (t) => {
  const stream = new CapturedStream(true);
  const display = new ProgressDisplay({ totalSteps: 10, stream, color: false });
  display.step(record(1));
  const before = stream.text.length;
  display.message('worker 1: \u001b[2J\u001b[31mhot\u001b[0m\rover\u0007', 'warning');
  const shown = stream.text.slice(before);
  t.false(shown.includes('\u001b[2J'));
  t.false(shown.includes('\r'));
  t.false(shown.includes('\u0007'));
  const text = stripVTControlCharacters(shown);
  t.true(text.indexOf('! worker 1: hot\n  over') < text.indexOf('1/10'));
  t.true(text.includes('1/10'), 'the block is drawn again below');
  display.end();
});

test('nothing is written to standard output, and a process that is ended gets its cursor back', (t) => {
  const script = `
    import { ProgressDisplay } from '@sluice/observe';
    const stream = Object.assign(process.stderr, { isTTY: true, columns: 80 });
    const display = new ProgressDisplay({ totalSteps: 10, stream });
    display.step(${JSON.stringify(record(1))});
    display.message('hello');
    process.exit(0);`;
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', `${script}`], {
    cwd: new URL('../../packages/observe', import.meta.url),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.is(output, '');
  const both = execFileSync(
    'sh',
    ['-c', 'exec "$0" --input-type=module --eval "$1" 2>&1', process.execPath, script],
    {
      cwd: new URL('../../packages/observe', import.meta.url),
      encoding: 'utf8',
    },
  );
  t.true(both.includes(HIDE_CURSOR));
  t.true(both.endsWith(SHOW_CURSOR));
});
