/** The GPU kit’s command line, and what becomes of its steps. */

import { existsSync, linkSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { availableCores } from '@sluice/core';
import test, { type ExecutionContext } from 'ava';
import { parseKitArguments } from '../../launcher/src/gpuKit/arguments.ts';
import { KIT_STEPS } from '../../launcher/src/gpuKit/catalog.ts';
import type { StepFile } from '../../launcher/src/gpuKit/child.ts';
import { runKit, type StartStep } from '../../launcher/src/gpuKit/kit.ts';
import { failureText } from '../../launcher/src/gpuKit/laboratory.ts';
import { kitMain } from '../../launcher/src/gpuKit/main.ts';
import { publishedPeak } from '../../launcher/src/gpuKit/modelBench.ts';
import { runWithin } from '../../launcher/src/gpuKit/runWithin.ts';
import { compileAll } from '../../launcher/src/gpuKit/steps/compile.ts';
import { fitting, tinyOf } from '../../launcher/src/gpuKit/steps/dense.ts';
import { reportOf as kernelsReport } from '../../launcher/src/gpuKit/steps/kernels.ts';
import { reportOf as lossesReport } from '../../launcher/src/gpuKit/steps/losses.ts';
import { reportOf as workersReport } from '../../launcher/src/gpuKit/steps/workers.ts';
import { loadModel } from '../../launcher/src/run/loadModel.ts';
import { processStart } from '../../launcher/src/run/processIdentity.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { until } from '../support/until.ts';

process.env.SLUICE_CUDA = 'emulated';

/** Stands for the steps' processes: what each leaves behind. */
const ENDINGS: Readonly<Record<string, { file?: StepFile; ending?: 'timed out' }>> = {
  right: { file: { verdict: 'right', summary: 'fine', data: { rate: 3 } } },
  wrong: { file: { verdict: 'wrong', summary: 'other bits', data: {} } },
  failed: { file: { data: { until: 1 }, error: 'SLUICE_E_CUDA: no' } },
  silent: {},
  late: { file: { data: { rows: [1, 2] } }, ending: 'timed out' },
  skipped: { file: { verdict: 'skipped', summary: 'no torch', data: {} } },
};

function stepsOf(names: readonly string[]) {
  return names.map((name) => ({ name, describe: name, limitSeconds: 1, load: () => Promise.reject() }));
}

async function run(t: ExecutionContext, names: readonly string[]) {
  const json = join(temporaryDirectory(t), 'results.json');
  const read = () =>
    JSON.parse(readFileSync(json, 'utf8')).steps as {
      step: string;
      outcome: string;
      summary: string;
      data: object;
    }[];
  const seen: number[] = [];
  const earlier: object[] = [];
  const start: StartStep = async (order) => {
    if (seen.length > 0) seen.push(read().length);
    else seen.push(0);
    earlier.push(order.earlier);
    const { file, ending = 'ended' } = ENDINGS[order.name]!;
    if (file) writeFileSync(order.reportFile, JSON.stringify(file));
    return ending;
  };
  const code = await runKit(
    { scale: 'tiny', only: names, json, show: undefined },
    stepsOf(names),
    start,
    () => {},
  );
  return { code, steps: read(), seen, earlier };
}

test('results take the place of those before as a whole', async (t) => {
  const folder = temporaryDirectory(t);
  const json = join(folder, 'results.json');
  const before = join(folder, 'before.json');
  const start: StartStep = async () => {
    // What is written over shows under its other name as well.
    if (existsSync(json) && !existsSync(before)) linkSync(json, before);
    return 'ended';
  };
  const names = ['one', 'two'];
  await runKit({ scale: 'tiny', only: names, json, show: undefined }, stepsOf(names), start, () => {});
  const stepsIn = (path: string) => JSON.parse(readFileSync(path, 'utf8')).steps.length;
  t.deepEqual([stepsIn(before), stepsIn(json)], [1, 2]);
});

test('a step that fails, ends silently or takes too long stops no other, and what was measured is kept', async (t) => {
  const names = ['failed', 'late', 'silent', 'wrong', 'right', 'skipped'];
  const { code, steps, seen, earlier } = await run(t, names);
  t.is(code, 1);
  t.deepEqual(
    steps.map(({ outcome }) => outcome),
    ['failed', 'timed out', 'failed', 'wrong', 'right', 'skipped'],
  );
  t.deepEqual(steps[0]!.data, { until: 1 });
  t.is(steps[0]!.summary, 'SLUICE_E_CUDA: no');
  t.deepEqual(steps[1]!.data, { rows: [1, 2] });
  // Each is written before the next one begins, which gets it.
  t.deepEqual(seen, [0, 1, 2, 3, 4, 5]);
  t.deepEqual(earlier.at(-1), {
    failed: { until: 1 },
    late: { rows: [1, 2] },
    silent: {},
    wrong: {},
    right: { rate: 3 },
  });
});

test('where all is right or skipped, so is the exit code', async (t) => {
  t.is((await run(t, ['right', 'skipped'])).code, 0);
});

test('a step that takes too long goes with all that it has started', async (t) => {
  const file = join(temporaryDirectory(t), 'pid');
  const forever = 'setInterval(() => {}, 1000)';
  const starts = `const { pid } = require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(forever)}]);
    require('fs').writeFileSync(${JSON.stringify(file)}, String(pid)); ${forever}`;
  const { signal } = new AbortController();
  t.is(await runWithin(1500, ['-e', starts], { env: process.env, signal }), 'timed out');
  const pid = Number(readFileSync(file, 'utf8'));
  await until('what it has started is gone', () => processStart(pid) === undefined);
  t.is(await runWithin(60_000, ['-e', ''], { env: process.env, signal }), 'ended');
});

test('of runs that failed the others are compared, and nothing is right without them', (t) => {
  const losses = { native: [2, 1], cuda: [2], f32: [2, 1] };
  const runs = { losses, tokensPerSecond: {}, failures: { cuda: 'it trapped\nhere' } };
  const report = lossesReport(runs, 2);
  t.is(report.verdict, 'wrong');
  t.is(report.summary, 'cuda failed: it trapped');
  t.regex(report.text!, / 2 {2}1\.00000 +1\.00000 {2}0\.00000 %/);
  t.is(lossesReport({ ...runs, losses: { ...losses, cuda: [2, 1] }, failures: {} }, 2).verdict, 'right');
  const hashes = { dense: { 1: 'a', 2: 'a' }, experts: { 1: 'b' } };
  const workers = workersReport(hashes, ['experts, 2: it trapped'], 'emulated');
  t.is(workers.verdict, 'wrong');
  t.regex(workers.text!, /dense +a +a\s+experts +b +failed/);
  t.is(workersReport({ dense: { 1: 'a', 2: 'a' } }, [], 'emulated').verdict, 'right');
});

test('kernels are compiled side by side, and one that fails costs no other', async (t) => {
  const kept: unknown[] = [];
  const context = {
    scale: 'full',
    isEmulated: false,
    endsAtMs: 0,
    keep: (data: unknown) => kept.push(data),
  } as const;
  const waiting: (() => void)[] = [];
  const names = ['a', 'b', 'c'];
  const together = Math.min(names.length, availableCores().count);
  const compiled = compileAll(names, context, async function* (name) {
    await new Promise<void>((resolve) => {
      waiting.push(resolve);
      // None goes on before as many have begun as there are cores.
      if (waiting.length === together) for (const go of waiting.splice(0)) go();
      else if (name === 'c') resolve();
    });
    yield name === 'b' ? { name, failure: 'it does not compile' } : { name, result: { seconds: 1 } };
  });
  const { rows, failures } = await compiled;
  t.deepEqual(rows.map(({ name }) => name).sort(), ['a', 'c']);
  t.deepEqual(failures, ['b: it does not compile']);
  t.is(kept.length, 3);
});

test('a command that fails is told of by the reason that its object gives, in the first line', (t) => {
  const stdout = '{"step":1}\n{"error":{"code":"SLUICE_E_CUDA","message":"cuInit failed."}}\n';
  const text = failureText(['train', 'x.yaml'], 'ended with 1', stdout, 'a line');
  t.is(text.split('\n')[0], 'sluice train x.yaml ended with 1: SLUICE_E_CUDA: cuInit failed.');
  t.regex(text, /a line$/);
  t.is(
    failureText(['train'], 'did not end in 9 s', 'so far\n', ''),
    'sluice train did not end in 9 s:\nso far',
  );
});

test('kernels that failed are told by their reason, apart from those that have other bits', (t) => {
  const both = ['ampere', 'hopper'] as const;
  const right = { name: 'matmul', bits: both, error: 0.5 };
  const other = { name: 'softmax', bits: [], error: 2 };
  const failed = { name: 'AdamW', bits: [], error: null, failure: 'SLUICE_E_CUDA: it trapped' };
  const of = (...rows: Parameters<typeof kernelsReport>[0]) => kernelsReport(rows, 'cuda').summary;
  t.is(
    of(right),
    'all 1 have the emulator’s bits (tensor cores as ampere’s); all within their bounds of double precision',
  );
  t.is(
    of(right, failed, other),
    '1 of 3 failed, at first AdamW: SLUICE_E_CUDA: it trapped; 1 of 2 have other bits than the emulator’s; all but 1 within their bounds of double precision',
  );
  t.is(of(failed), '1 of 1 failed, at first AdamW: SLUICE_E_CUDA: it trapped');
  t.is(kernelsReport([right, failed], 'cuda').verdict, 'wrong');
  t.regex(kernelsReport([failed], 'cuda').text!, /AdamW +failed +SLUICE_E_CUDA: it trapped/);
});

test('all steps together take ten minutes at most', (t) => {
  t.true(KIT_STEPS.reduce((sum, { limitSeconds }) => sum + limitSeconds, 0) <= 600);
});

test('steps are chosen by name, and run in their own order', (t) => {
  t.deepEqual(parseKitArguments(['--only', 'rates, probe']).only, ['probe', 'rates']);
  t.is(parseKitArguments([]).only.length, KIT_STEPS.length);
  t.is(parseKitArguments(['--list']).show, 'list');
  for (const [words, message] of [
    [['--only', 'speed'], /no step "speed": there are probe, compile, kernels/],
    [['--scale', 'huge'], /--scale is huge, and may be full or tiny/],
    [['--frobnicate'], /frobnicate/],
  ] as const)
    t.throws(() => parseKitArguments([...words]), { code: 'SLUICE_E_USAGE', message });
});

test('a wrong command line has an exit code of its own, and so has a size that the emulator cannot do', async (t) => {
  t.is(await kitMain(['--only', 'speed']), 2);
  const full = {
    scale: 'full',
    only: [],
    json: join(temporaryDirectory(t), 'results.json'),
    show: undefined,
  } as const;
  await t.throwsAsync(runKit(full, []), {
    code: 'SLUICE_E_USAGE',
    message: /--scale full: add --scale tiny/,
  });
});

test('a card without the memory for the dense model gets as many layers as fit', (t) => {
  const { model } = loadModel('configs/models/1.7b-28l.yaml');
  t.is(fitting(model, 141e9), model);
  t.is(fitting(model, 80e9), model);
  const { numLayers } = fitting(model, 24e9);
  t.true(numLayers > 4 && numLayers < 28, `${numLayers}`);
  t.is(fitting(model, 1e9).numLayers, 1);
  t.is(tinyOf(loadModel('configs/models/15b-a2b.yaml').model).experts!.count, 4);
});

test('rates that were published are twice those that a plan computes with', (t) => {
  t.is(publishedPeak('NVIDIA H100 80GB HBM3'), 989e12);
  t.is(publishedPeak('NVIDIA A100-SXM4-80GB'), 312e12);
  t.is(publishedPeak('NVIDIA GeForce RTX 4090'), undefined);
});
