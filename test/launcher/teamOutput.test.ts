import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { FoldedLines } from '../../launcher/src/coordinator/foldedLines.ts';
import { TeamOutput } from '../../launcher/src/coordinator/teamOutput.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';

/** Longer than any test: only `flush` ends the wait. */
const NEVER_MS = 2 ** 30;

test('what several ranks say alike is said once, with who says it', (t) => {
  const told: string[] = [];
  const lines = new FoldedLines((line) => told.push(line), NEVER_MS);
  for (const source of ['h1/0', 'h1/1', 'h2/2']) lines.add(source, 'Error: no such file');
  lines.add('h1/1', 'something of its own');
  t.deepEqual(told, []);
  lines.flush();
  t.deepEqual(told, [
    '[h1/0] Error: no such file (× 3 ranks: h1/0, h1/1, h2/2)',
    '[h1/1] something of its own',
  ]);
});

test('of many ranks the first are named', (t) => {
  const told: string[] = [];
  const lines = new FoldedLines((line) => told.push(line), NEVER_MS);
  for (let rank = 0; rank < 64; rank++) lines.add(`w/${rank}`, 'x');
  lines.flush();
  t.deepEqual(told, ['[w/0] x (× 64 ranks: w/0, w/1, w/2, w/3, w/4, w/5, w/6, w/7 and 56 more)']);
});

test('no line of a rank is lost, doubled or told out of its order, whatever is folded', (t) => {
  const said = fc.array(fc.tuple(fc.integer({ min: 0, max: 3 }), fc.constantFrom('a', 'b', 'c')));
  fc.assert(
    fc.property(said, (sayings) => {
      const told: string[] = [];
      const lines = new FoldedLines((line) => told.push(line), NEVER_MS);
      for (const [rank, text] of sayings) lines.add(`r${rank}`, text);
      lines.flush();
      for (let rank = 0; rank < 4; rank++) {
        const heard = told
          .filter((line) => new RegExp(`\\br${rank}\\b`).test(line))
          .map((line) => /\] (\w)/.exec(line)![1]);
        t.deepEqual(
          heard,
          sayings.filter(([by]) => by === rank).map(([, text]) => text),
        );
      }
    }),
  );
});

test('each worker of each start has a file of its own, from its beginning to its end', (t) => {
  const directory = join(temporaryDirectory(t), 'logs');
  for (let start = 1; start <= 2; start++) {
    const output = new TeamOutput({ count: 2, tell: () => {}, directory });
    const [first, second] = [0, 1].map((rank) => output.open(rank, `h/${rank}`, `worker ${rank}`));
    first!.line('hello');
    first!.ended('signal SIGKILL', false);
    output.noteFailure('h/0');
    second!.line('I miss h/0');
    second!.ended('signal SIGKILL', true);
    output.close();
  }
  t.deepEqual(readdirSync(directory), ['start-0001', 'start-0002']);
  const read = (rank: number) =>
    readFileSync(join(directory, 'start-0002', `rank-${rank}.log`), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z /, ''));
  t.deepEqual(read(0), ['# worker 0', 'hello', '# ended by signal SIGKILL']);
  t.deepEqual(read(1), ['# worker 1', 'I miss h/0', '# ended by signal SIGKILL, as the coordinator wanted']);
});

test('what follows from the first failure is told as that', (t) => {
  const told: string[] = [];
  const output = new TeamOutput({ count: 3, tell: (line) => told.push(line) });
  const [first, second, third] = [0, 1, 2].map((rank) => output.open(rank, `h/${rank}`, ''));
  first!.line('segmentation fault');
  output.noteFailure('h/0');
  first!.ended('signal SIGSEGV', false);
  output.noteFailure('h/1');
  second!.line('my peer is gone');
  second!.ended('exit code 1', false);
  third!.ended('signal SIGKILL', true);
  t.deepEqual(told, [
    '[h/0] segmentation fault',
    '[h/1, after h/0 failed] my peer is gone',
    '[h/1, after h/0 failed] ended by exit code 1',
  ]);
});

test('a folder that takes no files is told of once, and stops nothing', (t) => {
  const told: string[] = [];
  const place = join(temporaryDirectory(t), 'logs');
  writeFileSync(place, 'a file');
  const output = new TeamOutput({ count: 1, tell: (line) => told.push(line), directory: place });
  output.open(0, 'worker 0', '').line('hello');
  output.close();
  t.is(told.length, 2);
  t.regex(told[0]!, /Training goes on; the workers' logs of this start are not whole/);
  t.is(told[1], '[worker 0] hello');
  t.true(existsSync(place));
});

test('what is known of the workers at a moment is kept beside their logs', (t) => {
  const directory = join(temporaryDirectory(t), 'logs');
  const output = new TeamOutput({ count: 2, tell: () => {}, directory });
  const folder = output.keepStates('stall-1', new Map([[3, { doing: 'step 4' }]]));
  t.is(folder, join(directory, 'start-0001', 'stall-1'));
  t.deepEqual(JSON.parse(readFileSync(join(folder!, 'rank-3.json'), 'utf8')), { doing: 'step 4' });
  t.is(new TeamOutput({ count: 2, tell: () => {} }).keepStates('stall-1', new Map()), undefined);
});

test('the folders of the newest starts are kept, and nothing else is touched', (t) => {
  const directory = join(temporaryDirectory(t), 'logs');
  for (const name of ['start-0007', 'start-9998', 'start-0012', 'mine']) {
    mkdirSync(join(directory, name), { recursive: true });
  }
  for (let start = 0; start < 18; start++) new TeamOutput({ count: 1, tell: () => {}, directory });
  const names = readdirSync(directory);
  t.is(names.length, 21);
  t.false(names.includes('start-0007'));
  t.true(
    ['start-0012', 'start-9998', 'start-9999', 'start-10016', 'mine'].every((name) => names.includes(name)),
  );
});
