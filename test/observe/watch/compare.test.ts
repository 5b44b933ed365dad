/** Curves of several runs over each other. */

import test from 'ava';
import { MetricColumns } from '../../../packages/observe/src/report/columns.ts';
import { type CompareRequest, compareRuns } from '../../../packages/observe/src/watch/compare.ts';
import { record } from '../support.ts';

function run(id: string, losses: readonly number[], every = 1) {
  const columns = new MetricColumns();
  losses.forEach((loss, i) => {
    columns.add(record(1 + i * every, { loss, tokens: 100 * every }));
  });
  return { id, name: `run ${id}`, columns };
}

const REQUEST: CompareRequest = { measure: 'loss', axis: 'step', smoothing: 0 };

test('each run has its own steps, tokens or hours', (t) => {
  const runs = [run('a', [5, 4, 3]), run('b', [6, 2], 10)];
  const axes = (axis: CompareRequest['axis']) =>
    compareRuns(runs, { ...REQUEST, axis }).curves.map(({ x }) => x);
  t.deepEqual(axes('step'), [
    [1, 2, 3],
    [1, 11],
  ]);
  t.deepEqual(axes('tokens'), [
    [100, 200, 300],
    [1000, 2000],
  ]);
  t.deepEqual(axes('hours')[1], [0, Number((10 / 3600).toPrecision(9))]);
});

test('a difference is to the curve between the points of the other, and there is none beyond its ends', (t) => {
  const runs = [run('a', [5, 4, 3, 2]), run('b', [6, 3], 2)];
  const { curves, unit } = compareRuns(runs, { ...REQUEST, base: 'b' });
  t.deepEqual(
    curves.map(({ y }) => y),
    [
      [-1, -0.5, 0, null],
      [0, 0],
    ],
  );
  t.is(unit, 'nats a token, less run b');
});

test('validations are curves of what was measured only', (t) => {
  const columns = new MetricColumns();
  for (const step of [1, 2, 3, 4]) columns.add(record(step, step % 2 === 0 ? { validationLoss: step } : {}));
  const { curves } = compareRuns([{ id: 'a', name: 'a', columns }], { ...REQUEST, measure: 'validation' });
  t.deepEqual(
    [curves[0]!.x, curves[0]!.y],
    [
      [2, 4],
      [2, 4],
    ],
  );
});

test('columns that are cut and grow again are those of a run that took its last steps only', (t) => {
  const [cut, straight] = [new MetricColumns(), new MetricColumns()];
  const at = (step: number, loss: number) =>
    record(step, { loss, lastUpdate: { overall: loss, groups: {} }, applied: step % 5 !== 0 });
  for (let step = 1; step <= 40; step++) cut.add(at(step, 9));
  cut.cut(20);
  for (let step = 1; step <= 60; step++) straight.add(at(step, step > 20 ? 3 : 9));
  for (let step = 21; step <= 60; step++) cut.add(at(step, 3));
  t.deepEqual([...cut.loss.values()], [...straight.loss.values()]);
  t.deepEqual([...cut.tokens.values()], [...straight.tokens.values()]);
  t.deepEqual(
    [...cut.updates.groups.get('whole model')!.values(60)],
    [...straight.updates.groups.get('whole model')!.values(60)],
  );
  t.deepEqual(cut.skipped, straight.skipped);
});
