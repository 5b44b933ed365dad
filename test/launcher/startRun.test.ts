import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { stringify } from 'yaml';
import { prepareDataset } from '../../launcher/src/coordinator/dataset.ts';
import { demandOneArithmetic } from '../../launcher/src/coordinator/oneArithmetic.ts';
import { resumeRun } from '../../launcher/src/coordinator/resumeRun.ts';
import { checkSplits } from '../../launcher/src/coordinator/splits.ts';
import { startRun } from '../../launcher/src/coordinator/startRun.ts';
import { makeSavedRun } from './support/savedRun.ts';

test('workers that compute with different arithmetic, as GPUs of two kinds do, are refused by name', (t) => {
  const placeOf = (rank: number) => ({ name: `worker ${rank}`, host: `h${rank >> 1}` });
  const started = ['cuda-1-sm_90a', 'cuda-1-sm_90a', 'cuda-1-sm_80'].map((arithmetic) => ({ arithmetic }));
  t.notThrows(() => demandOneArithmetic(started.slice(0, 2), placeOf));
  t.throws(() => demandOneArithmetic(started, placeOf), {
    code: 'SLUICE_E_HOST_DIFFERS',
    message: /worker 0 on h0 with cuda-1-sm_90a, worker 2 on h1 with cuda-1-sm_80/,
  });
});

test.serial('what cannot work is refused before there is a run directory', async (t) => {
  const { run, config } = await makeSavedRun(t);
  const file = join(run.path, '..', 'start.yaml');
  writeFileSync(file, stringify(config));
  const runDir = join(run.path, '..', 'new');
  const cases: [string[], string, RegExp][] = [
    [['data.sequenceLength=1000000'], 'SLUICE_E_DATA_TOO_SMALL', /train split .* a sequence of 1000000/],
    [['data.sequenceLength=1500'], 'SLUICE_E_DATA_TOO_SMALL', /validation split .* a sequence of 1500/],
    [['schedule.warmupSteps=11'], 'SLUICE_E_SCHEDULE_INVALID', /warmupSteps is 11/],
    [['batch.sequences=7'], 'SLUICE_E_BATCH_INDIVISIBLE', /7/],
    [['parallel.workers=3'], 'SLUICE_E_WORKERS_INVALID', /3/],
    [['model.vocabularySize=8'], 'SLUICE_E_VOCABULARY_TOO_SMALL', /8/],
    [['name=../up'], 'SLUICE_E_CONFIG_INVALID', /path/],
    [['checkpoint.keep=0'], 'SLUICE_E_CONFIG_INVALID', /keep/],
  ];
  for (const [set, code, message] of cases) {
    const error = await t.throwsAsync(
      startRun({ config: file, runDir, set }, () => {}),
      { code },
      set.join(),
    );
    t.regex(error.message, message);
    t.false(existsSync(runDir), set.join());
  }
});

test.serial('a place for sockets that is not there is told before anything is written', async (t) => {
  const { run, config, save } = await makeSavedRun(t);
  await save(4);
  const file = join(run.path, '..', 'start.yaml');
  writeFileSync(file, stringify(config));
  const runDir = join(run.path, '..', 'new');
  const journal = readFileSync(run.journal, 'utf8');
  const unusable = { code: 'SLUICE_E_TEMPORARY_DIRECTORY' };
  const { TMPDIR } = process.env;
  process.env.TMPDIR = join(run.path, 'nowhere');
  try {
    await t.throwsAsync(
      startRun({ config: file, runDir }, () => {}),
      unusable,
    );
    await t.throwsAsync(
      resumeRun({ run: run.path }, () => {}),
      unusable,
    );
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = TMPDIR;
  }
  t.false(existsSync(runDir));
  t.is(readFileSync(run.journal, 'utf8'), journal);
});

test.serial(
  'a corpus without a validation split is told, and so is a batch larger than the corpus',
  async (t) => {
    const { config } = await makeSavedRun(t);
    const whole = await prepareDataset(config.data.recipe!, () => {});
    t.deepEqual(checkSplits(config, [whole.directory]), []);
    const large = { ...config, batch: { ...config.batch, sequences: 100_000 } };
    t.regex(
      checkSplits(large, [whole.directory]).join(),
      /training split has \d+ sequences, fewer than a batch/,
    );
    const recipe = readFileSync(config.data.recipe!, 'utf8').replace('fraction: 0.2', 'fraction: 0');
    writeFileSync(config.data.recipe!, recipe);
    const { directory } = await prepareDataset(config.data.recipe!, () => {});
    t.deepEqual(checkSplits(config, [directory]), ['no validation: the corpus sentences holds nothing out']);
  },
);
