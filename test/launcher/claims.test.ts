import { existsSync } from 'node:fs';
import { mock } from 'node:test';
import { resolvePath } from '@sluice/core';
import type { ExperimentResults, ExperimentRun, FindLrResults } from '@sluice/observe';
import test from 'ava';
import { budgetSignal } from '../../launcher/src/claims/claims.ts';
import { Claim, ClaimTest, loadClaims, rowsOf } from '../../launcher/src/claims/config.ts';
import { judgeClaim, judgeTest, type KnownResults } from '../../launcher/src/claims/judge.ts';
import { claimsMarkdown, claimsText } from '../../launcher/src/claims/tell.ts';
import { experimentRun, loadExperiment } from '../../launcher/src/experiment/config.ts';

const PAPER = 'configs/paper/claims.yaml';

test('the paper’s claims are numbered, and name rows that their experiments have at the tiny scale', (t) => {
  const { claims } = loadClaims(PAPER);
  t.deepEqual(
    claims.map(({ id }) => id),
    Array.from({ length: 19 }, (_, i) => i + 1),
  );
  for (const one of claims.flatMap(({ requires, tests }) => [...requires, ...tests])) {
    const path = resolvePath(PAPER, one.experiment);
    t.true(existsSync(path), path);
    const experiment = loadExperiment(path);
    for (const name of rowsOf(one)) {
      const row = experiment.rows.find((candidate) => candidate.name === name);
      t.truthy(row, `${path}: ${name}`);
      if (row) t.notThrows(() => experimentRun(path, experiment, row, 'tiny'));
    }
    const question = one.kind === 'stable-rate' ? undefined : one.question;
    t.true(question === undefined || experiment.retrieval.some(({ name }) => name === question), question);
  }
});

type Values = Partial<Pick<ExperimentRun, 'validationLoss' | 'spikes' | 'outcome' | 'retrieval'>> & {
  sink?: number;
};

/** Results of rows, each with a run for each seed. */
function known(rows: Record<string, readonly Values[]>): KnownResults {
  const runs = Object.entries(rows).flatMap(([row, ofSeeds]) =>
    ofSeeds.map(({ sink, ...values }, i) => ({
      row,
      seed: i + 1,
      outcome: 'finished',
      validationLoss: null,
      spikes: 0,
      diagnosis:
        sink === undefined
          ? null
          : { firstTokenAttention: sink, layers: [{ firstTokenAttention: sink / 2 }] },
      ...values,
    })),
  );
  const seeds = Object.values(rows)[0]!.map((_, i) => i + 1);
  const results = { seeds, runs } as unknown as ExperimentResults;
  return { experiment: (path) => (path === 'e' ? results : undefined), findLr: () => undefined };
}

const losses = (...values: number[]) => values.map((validationLoss) => ({ validationLoss }));
const compare = (keys: object) =>
  ClaimTest.parse({ kind: 'compare', experiment: 'e', row: 'a', than: 'b', expect: 'lower', ...keys });
const verdictOf = (one: ClaimTest, rows: Record<string, readonly Values[]>) =>
  judgeTest(one, known(rows)).verdict;

test('a difference is a verdict only where its interval lies on one side', (t) => {
  const b = losses(5, 5.1, 5.2);
  t.is(verdictOf(compare({}), { a: losses(4.5, 4.61, 4.69), b }), 'supported');
  t.is(verdictOf(compare({}), { a: losses(5.5, 5.61, 5.69), b }), 'contradicted');
  t.is(verdictOf(compare({}), { a: losses(4.5, 5.4, 5.1), b }), 'undecided');
  t.is(verdictOf(compare({ by: 0.6 }), { a: losses(4.5, 4.61, 4.69), b }), 'contradicted');
  t.is(verdictOf(compare({ expect: 'higher' }), { a: losses(4.5, 4.61, 4.69), b }), 'contradicted');
});

test('sameness is a matter of how far is far', (t) => {
  const rows = { a: losses(5.01, 5.1, 5.21), b: losses(5, 5.1, 5.2) };
  t.is(verdictOf(compare({ expect: 'same', by: 0.05 }), rows), 'supported');
  t.is(verdictOf(compare({ expect: 'same', by: 0.01 }), rows), 'undecided');
  t.is(verdictOf(compare({ expect: 'same' }), { a: rows.b, b: rows.b }), 'supported');
  t.is(verdictOf(compare({ expect: 'same', by: 0.05 }), { ...rows, a: losses(6, 6.1, 6.2) }), 'contradicted');
});

test('ratios are compared by their logarithms, also of single layers', (t) => {
  const sinks = (...values: number[]) => values.map((sink) => ({ sink }));
  const rows = { a: sinks(0.02, 0.03, 0.02), b: sinks(0.9, 0.8, 0.95) };
  const ratio = { measure: 'firstTokenAttention', factor: 0.5 };
  t.is(verdictOf(compare(ratio), rows), 'supported');
  const layer = judgeTest(compare({ ...ratio, layer: 0, thanLayer: 0 }), known(rows));
  t.is(layer.verdict, 'supported');
  t.is(verdictOf(compare({ ...ratio, factor: 0.001 }), rows), 'contradicted');
});

test('a bound holds for the mean of all layers, or for one', (t) => {
  const level = (keys: object) =>
    ClaimTest.parse({
      ...{ kind: 'level', experiment: 'e', row: 'a', measure: 'firstTokenAttention' },
      ...{ expect: 'above', bound: 0.6, ...keys },
    });
  const rows = { a: [{ sink: 0.9 }, { sink: 0.8 }, { sink: 0.95 }] };
  t.is(verdictOf(level({}), rows), 'supported');
  const layer = judgeTest(level({ layer: 0 }), known(rows));
  t.is(layer.verdict, 'contradicted');
  t.is(layer.text, 'firstTokenAttention of a, layer 0, to be above 0.6');
});

test('answers to a question of the experiment are compared as other measures are', (t) => {
  const answers = (...shares: number[]): Values[] =>
    shares.map((accuracy) => ({
      retrieval: { 'at-256': { accuracy, recall: accuracy, choiceAccuracy: 1, answerLoss: 2 } },
    }));
  const rows = { a: answers(0.9, 0.8, 0.9), b: answers(0.3, 0.2, 0.4) };
  const higher = compare({ expect: 'higher', measure: 'accuracy', question: 'at-256' });
  t.is(verdictOf(higher, rows), 'supported');
  t.is(judgeTest(higher, known(rows)).text, 'accuracy (at-256) of a to b');
  const unasked = judgeTest(compare({ measure: 'accuracy', question: 'at-64' }), known(rows));
  t.like(unasked, { verdict: 'undecided', seeds: 0 });
});

test('one seed decides nothing', (t) => {
  const judged = judgeTest(compare({}), known({ a: losses(1), b: losses(9) }));
  t.like(judged, { verdict: 'undecided', effect: -8, interval: null, seeds: 1 });
});

test('that one row diverges with every seed and the other with none is an answer', (t) => {
  const diverged: Values[] = [{ outcome: 'diverged' }, { outcome: 'diverged' }];
  t.is(verdictOf(compare({}), { a: losses(5, 5), b: diverged }), 'supported');
  t.is(verdictOf(compare({}), { a: diverged, b: losses(5, 5) }), 'contradicted');
  t.is(verdictOf(compare({}), { a: losses(5, 5), b: [{ outcome: 'diverged' }, ...losses(5)] }), 'undecided');
});

test('spikes of runs that diverged count', (t) => {
  const spikes = (...values: number[]): Values[] =>
    values.map((count) => ({ spikes: count, outcome: 'diverged' }));
  const rows = { a: [{ spikes: 0 }, { spikes: 0 }, { spikes: 0 }], b: spikes(6, 7, 6) };
  t.is(verdictOf(compare({ measure: 'spikes' }), rows), 'supported');
});

test('a share of a gain, and gains in two settings, are compared seed by seed', (t) => {
  const rows = {
    base: losses(6, 6.2, 6.1),
    best: losses(5, 5.2, 5.1),
    some: losses(5.3, 5.52, 5.39),
    other: losses(5.9, 6.1, 6),
  };
  const share = { kind: 'share', experiment: 'e', row: 'some', than: 'base', of: 'best' };
  t.is(verdictOf(ClaimTest.parse({ ...share, atLeast: 0.5 }), rows), 'supported');
  t.is(verdictOf(ClaimTest.parse({ ...share, atLeast: 0.9 }), rows), 'contradicted');
  const interaction = {
    kind: 'interaction',
    experiment: 'e',
    row: 'some',
    than: 'base',
    otherRow: 'other',
    otherThan: 'base',
  };
  t.is(verdictOf(ClaimTest.parse({ ...interaction, expect: 'lower' }), rows), 'supported');
});

test('stable rates that differ by less than half a step of the grid are the same', (t) => {
  const variant = (name: string, rates: readonly number[]) => ({
    name,
    seeds: rates.map((largestStable, i) => ({
      seed: i + 1,
      largestStable,
      smallestUnstable: largestStable < 0.5 ? 2 * largestStable : null,
    })),
  });
  const findLr = {
    resolution: Math.SQRT2,
    variants: [
      variant('a', [0.04, 0.04, 0.04]),
      variant('b', [0.01, 0.01, 0.01]),
      variant('c', [0.01, 0.01, 0.01]),
      variant('top', [0.5, 0.5, 0.5]),
      variant('high', [0.5, 0.5, 0.5]),
    ],
  } as unknown as FindLrResults;
  const results: KnownResults = { experiment: () => undefined, findLr: () => findLr };
  const judge = (row: string, than: string, expect: string) =>
    judgeTest(ClaimTest.parse({ kind: 'stable-rate', experiment: 'e', row, than, expect }), results);
  t.is(judge('a', 'b', 'higher').verdict, 'supported');
  t.is(judge('b', 'a', 'higher').verdict, 'contradicted');
  t.is(judge('b', 'c', 'same').verdict, 'supported');
  t.is(judge('b', 'c', 'higher').verdict, 'contradicted');
  // The search ended where both were stable still.
  t.like(judge('top', 'high', 'same'), { verdict: 'undecided', seeds: 0 });
  t.is(judge('top', 'a', 'higher').verdict, 'supported');
});

test('a claim holds where all its tests do, and has no verdict without any', (t) => {
  const claim = (tests: readonly ClaimTest[], requires: readonly ClaimTest[] = []) =>
    Claim.parse({ id: 1, claim: 'a | is better', source: 'x', decides: 'more', tests, requires });
  const rows = { a: losses(4.5, 4.61, 4.69), b: losses(5, 5.1, 5.2) };
  const verdict = (tests: readonly ClaimTest[]) => judgeClaim(claim(tests), known(rows)).verdict;
  t.is(verdict([compare({})]), 'supported');
  t.is(verdict([compare({}), compare({ experiment: 'not run' })]), 'undecided');
  t.is(verdict([compare({ experiment: 'not run' }), compare({ expect: 'higher' })]), 'contradicted');
  t.is(verdict([]), 'undecided');
  const supposed = (one: ClaimTest) => judgeClaim(claim([compare({})], [one]), known(rows)).verdict;
  t.is(supposed(compare({})), 'supported');
  t.is(supposed(compare({ expect: 'higher' })), 'undecided');
  const judged = [judgeClaim(claim([compare({})]), known(rows))];
  t.regex(claimsText('Claims', judged), /1 supported, 0 contradicted, 0 undecided/);
  t.regex(claimsMarkdown(judged, [], []), /\| \*\*supported\*\* \|/);
});

test.serial('a budget that is longer than any timer lasts as long as it says', (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const [hours, longest] = [1000, 2 ** 31 - 1];
  let clock = 0;
  const budget = budgetSignal(hours, () => clock)!;
  const pass = (ms: number) => {
    clock += ms;
    mock.timers.tick(ms);
  };
  pass(longest);
  t.false(budget.aborted);
  pass(3_600_000 * hours - longest);
  t.true(budget.aborted);
});
