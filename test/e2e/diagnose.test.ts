/** Measuring trained models through the command line. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

interface Measured {
  readonly source: string;
  readonly sequences: number;
  readonly sequenceLength: number;
  readonly firstTokenAttention: number;
  readonly massiveActivation: number;
  readonly gateScoreMean: number | null;
  readonly updateRatio: number | null;
  readonly noUpdateRatio?: string;
  readonly layers: readonly {
    readonly updateRatio: number | null;
    readonly router?: { readonly load: readonly number[] };
  }[];
}

test.serial('diagnose measures a run, a checkpoint, and several models side by side', async (t) => {
  sandbox.write('plain.yaml', 'extends: dense.yaml\nmodel: { gate: { granularity: none } }\n');
  for (const name of ['plain', 'moe']) await sandbox.json(`train ${name}.yaml --run-dir ${name} --threads 1`);

  const moe = await sandbox.json<Measured>('diagnose moe --sequences 3 --sequence-length 16');
  t.like(moe, { source: 'moe', sequences: 3, sequenceLength: 16 });
  t.is(moe.layers.length, 2);
  t.is(moe.layers[0]!.router!.load.length, 4);
  t.true(moe.gateScoreMean! > 0.3 && moe.gateScoreMean! < 0.7);
  t.true(moe.firstTokenAttention > 0 && moe.firstTokenAttention < 1);
  t.true(moe.massiveActivation > 0);
  const checkpoint = await sandbox.json<Measured>(
    'diagnose moe/checkpoints/step-00000012 --sequences 3 --sequence-length 16',
  );
  t.deepEqual({ ...checkpoint, source: 'moe' }, moe);

  const both = await sandbox.json<{ models: Measured[]; html: string }>(
    'diagnose plain moe --sequences 2 --html page.html --layers 1 --heads 0,3',
  );
  t.deepEqual(
    both.models.map(({ source, sequenceLength }) => [source, sequenceLength]),
    [
      ['plain', 32],
      ['moe', 32],
    ],
  );
  t.is(both.models[0]!.gateScoreMean, null);
  const html = readFileSync(both.html, 'utf8');
  t.is(html.match(/<canvas/g)!.length, 4);
  t.true(html.includes('layer 1, head 3'));

  writeFileSync(join(sandbox.path, 'text.txt'), 'the cat sees the dog and number 3 .\n'.repeat(20));
  const text = await sandbox.json<Measured>(
    'diagnose plain --text text.txt --sequence-length 20 --sequences 2',
  );
  t.like(text, { sequences: 2, sequenceLength: 20 });
});

test.serial('a checkpoint gives the size of the update that training measured at its step', async (t) => {
  await sandbox.json(
    'train moe.yaml --run-dir sharded --workers 2 --expert-parallel 2 --threads 1 --set diagnostics.everySteps=5 --set checkpoint.everySteps=10 --set optimizer.weightDecay=0.5',
  );
  const lines = readFileSync(join(sandbox.path, 'sharded/diagnostics.jsonl'), 'utf8').trim().split('\n');
  const logged = lines.map((line) => JSON.parse(line) as Measured & { readonly step: number });
  for (const step of [10, 12]) {
    const inTraining = logged.find((line) => line.step === step)!;
    const later = await sandbox.json<Measured>(
      `diagnose sharded/checkpoints/step-000000${step} --sequences 1 --sequence-length 8`,
    );
    const ratios = ({ updateRatio, layers }: Measured) => [updateRatio, ...layers.map((l) => l.updateRatio)];
    // The log keeps six digits.
    t.deepEqual(
      ratios(later).map((ratio) => Number(ratio!.toPrecision(6))),
      ratios(inTraining),
    );
    t.true(later.updateRatio! > 0);
    t.is(later.noUpdateRatio, undefined);
  }
});

test.serial('layers and heads that a model does not have are refused by name', async (t) => {
  for (const [flag, message] of [
    ['--layers 0,2', /moe has no layer 2: its layers are 0 to 1/],
    ['--heads 4', /moe has no head 4: its heads are 0 to 3/],
  ] as const) {
    const { code, stderr } = await sandbox.start(`diagnose moe --html page.html ${flag}`).ended;
    t.is(code, 2);
    t.regex(stderr, message);
  }
});
