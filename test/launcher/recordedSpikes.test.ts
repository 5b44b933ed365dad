import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MetricsLog, supersedeAfter } from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import { stringify } from 'yaml';
import { type ExamineOptions, examineCurve } from '../../launcher/src/run/recordedSpikes.ts';
import { record } from '../observe/support.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { smallConfig } from './support/config.ts';

/** A loss that falls slowly, with small deterministic noise, and rises by 0.3 nats at point 150 and by 2 at 200 and 203. */
const LOSSES = Array.from(
  { length: 300 },
  (_, i) => 3 - i * 0.0002 + 0.01 * Math.sin(i * 12.9898) + ({ 150: 0.3, 200: 2, 203: 2.1 }[i] ?? 0),
);

async function examine(path: string, options: Partial<ExamineOptions> = {}) {
  const said: string[] = [];
  const log = (line: string) => said.push(line);
  const { json, text } = await examineCurve(path, { names: {}, settings: {}, ...options }, log);
  return { said, text, json: JSON.parse(JSON.stringify(json)) };
}

function csvOf(t: ExecutionContext, losses: readonly number[] = LOSSES): string {
  const path = join(temporaryDirectory(t), 'loss.csv');
  writeFileSync(path, ['step,loss', ...losses.map((loss, i) => `${i * 40 + 17},${loss}`)].join('\n'));
  return path;
}

/** A run directory with a configuration and metrics. */
function runOf(t: ExecutionContext, spikes: object = {}): string {
  const run = temporaryDirectory(t);
  writeFileSync(join(run, 'config.yaml'), stringify({ ...smallConfig(), spikes }));
  writeFileSync(join(run, 'journal.jsonl'), '');
  const log = MetricsLog.open(join(run, 'metrics.jsonl'));
  for (const [i, loss] of LOSSES.entries()) log.append(record(i + 1, { loss, groupNorms: { router: 1 } }));
  log.close();
  return run;
}

test('a recorded curve is told by its episodes, as a table and as JSON', async (t) => {
  const { json, text, said } = await examine(csvOf(t));
  t.like(json, {
    episodes: [
      {
        start: 6017,
        peak: 6017,
        end: 6017,
        points: 1,
        signal: 'loss',
        first: { signal: 'loss', step: 6017 },
      },
      { start: 8017, peak: 8137, end: 8137, points: 2 },
    ],
    ...{ points: 300, firstStep: 17, lastStep: 11_977, loss: 'loss', gradientNorm: null },
    settings: { window: 128, warmupSteps: 32, threshold: 6, minimumExcess: 0.1, minimumRatio: 1.5 },
  });
  t.deepEqual(
    json.outliers.map(({ step }: { step: number }) => step),
    [6017, 8017, 8137],
  );
  t.true(Math.abs(json.episodes[1].excess - 2.1) < 0.1);
  t.deepEqual(said, []);
  t.regex(text, /8,017–8,137 +8,137 +loss +5\.\d{4} +2\.\d{4} +2\.\d{4}/);
  t.regex(
    text,
    /2 episodes of 3 outlying points in 300 points of loss, .*; the highest at step 8,137, 2\.\d{4} nats/,
  );
});

test('a stricter detector finds less, and a curve without spikes says so', async (t) => {
  const path = csvOf(t);
  const { json } = await examine(path, { settings: { minimumExcess: 0.5 } });
  t.is(json.episodes.length, 1);
  const { text } = await examine(path, { settings: { minimumExcess: 5 } });
  t.is(text, 'no spike in 300 points of loss, steps 17 to 11,977');
});

test('a curve shorter than the history that is needed is not called free of spikes in silence', async (t) => {
  const { said } = await examine(csvOf(t, LOSSES.slice(0, 32)));
  t.regex(said[0]!, /nothing is judged: the first 32 points are history/);
  t.deepEqual((await examine(csvOf(t, LOSSES.slice(0, 33)))).said, []);
});

test('a run is judged as it was configured, even if it was not to look; flags come first', async (t) => {
  const run = runOf(t, { policy: 'off', minimumExcess: 0.5 });
  const { json } = await examine(run);
  t.is(json.gradientNorm, 'gradientNorm');
  t.deepEqual(
    json.episodes.map(({ start, end }: { start: number; end: number }) => [start, end]),
    [[201, 204]],
  );
  t.is((await examine(run, { settings: { minimumExcess: 0.1 } })).json.episodes.length, 2);
});

test('steps of a run that were taken again are named', async (t) => {
  const run = runOf(t);
  supersedeAfter(run, 190);
  const { json, said } = await examine(run);
  t.is(json.lastStep, 190);
  t.regex(said[0]!, /191–300 \(superseded\/metrics-001\.jsonl\)/);
});

test('the picture shows the curve and marks each episode', async (t) => {
  const svg = join(temporaryDirectory(t), 'loss.svg');
  await examine(csvOf(t), { svg });
  const picture = readFileSync(svg, 'utf8');
  t.is(picture.split('class="band"').length - 1, 2);
  t.regex(picture, /loss: 2 spikes in 300 points/);
  t.notRegex(picture, /NaN|Infinity|undefined/);
});
