import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { loadYamlConfig, type SluiceError } from '@sluice/core';
import { RunConfig } from '@sluice/train';
import test from 'ava';
import { stringify } from 'yaml';
import { ExperimentConfig } from '../../launcher/src/experiment/config.ts';
import { acquireLock } from '../../launcher/src/run/lock.ts';
import { freezeRunConfig, loadRunConfig } from '../../launcher/src/run/runConfig.ts';
import {
  directoryForRun,
  existingRun,
  makeRunDirectory,
  refuseExistingRun,
  runName,
  shellQuote,
} from '../../launcher/src/run/runDirectory.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { SMALL_CONFIG } from './support/config.ts';

test('a run without a directory goes to its name’s below runs/, which no name leaves', (t) => {
  t.is(directoryForRun({ name: 'night 1' }, 'x.yaml'), join('runs', 'night 1'));
  t.is(directoryForRun({}, 'configs/a.b.yaml'), join('runs', 'a.b'));
  for (const file of ['configs/.yaml', '..yaml', 'configs/..'])
    t.throws(() => directoryForRun({}, file), { code: 'SLUICE_E_USAGE', message: /would be called/ }, file);
  for (const name of ['..', '../up', '', 'a/b']) {
    const path = join(temporaryDirectory(t), 'run.yaml');
    writeFileSync(path, stringify({ ...SMALL_CONFIG, name }));
    const error = t.throws(() => loadYamlConfig(path, RunConfig), { code: 'SLUICE_E_CONFIG_INVALID' });
    t.true(error.message.includes(`name: ${JSON.stringify(name)}`), error.message);
  }
});

test('rows of experiments, which become folders, have names that stay in theirs', (t) => {
  const named = (name: string) =>
    ExperimentConfig.safeParse({ title: 't', base: 'b.yaml', rows: [{ name, method: 'm' }] }).success;
  t.true(named('lr-0.1'));
  for (const name of ['..', '.', '.hidden', '-x', 'a/b', '', 'nul']) t.false(named(name), name);
});

test('a directory that holds a run is refused, and the message tells how to go on with it', (t) => {
  const path = join(temporaryDirectory(t), 'my run');
  const run = makeRunDirectory(path);
  t.true(existsSync(run.checkpoints));
  t.notThrows(() => makeRunDirectory(path));
  writeFileSync(run.config, '');
  const error = t.throws(() => makeRunDirectory(path), { code: 'SLUICE_E_RUN_EXISTS' });
  t.true(error.message.includes(`sluice resume '${path}'`), error.message);
});

test('a directory that holds other things is refused, what is there before a run is not', (t) => {
  const refused = (names: readonly string[]) => {
    const path = temporaryDirectory(t);
    for (const name of names) {
      mkdirSync(dirname(join(path, name)), { recursive: true });
      writeFileSync(join(path, name), '');
    }
    try {
      makeRunDirectory(path);
      return undefined;
    } catch (error) {
      t.is((error as SluiceError).code, 'SLUICE_E_OUTPUT_EXISTS');
      return (error as SluiceError).details.holds;
    }
  };
  t.is(refused(['thesis.tex']), 'thesis.tex');
  // A run whose configuration and journal were removed would mix with the new one.
  t.is(refused(['metrics.jsonl']), 'metrics.jsonl');
  t.is(refused(['checkpoints/step-00000100/manifest.json']), 'checkpoints/step-00000100');
  t.is(
    refused(['.gitkeep', 'launch.yaml', 'cluster.key', 'slurm/job.sh', 'night.log', 'nohup.out']),
    undefined,
  );
  const killed = temporaryDirectory(t);
  const run = makeRunDirectory(killed);
  acquireLock(run.lock);
  mkdirSync(run.tokenizer);
  t.notThrows(() => makeRunDirectory(killed));
});

test('a journal alone makes a run too', (t) => {
  const path = temporaryDirectory(t);
  writeFileSync(join(path, 'journal.jsonl'), '');
  t.throws(() => refuseExistingRun(path), { code: 'SLUICE_E_RUN_EXISTS' });
});

test('a run directory that cannot be made is a coded error', (t) => {
  const directory = temporaryDirectory(t);
  const file = join(directory, 'file');
  writeFileSync(file, '');
  t.throws(() => makeRunDirectory(file), { code: 'SLUICE_E_FILE_UNWRITABLE', message: /is a file/ });
  for (const path of [join(file, 'run'), '/proc/nonexistent/run', join(directory, 'x'.repeat(300))])
    t.throws(() => makeRunDirectory(path), { code: 'SLUICE_E_FILE_UNWRITABLE' });
});

test('a run directory without write permission is a coded error', (t) => {
  const directory = join(temporaryDirectory(t), 'closed');
  mkdirSync(directory);
  chmodSync(directory, 0o555);
  try {
    writeFileSync(join(directory, 'probe'), '');
    t.log('this user may write everywhere');
    t.pass();
  } catch {
    t.throws(() => makeRunDirectory(join(directory, 'run')), { code: 'SLUICE_E_FILE_UNWRITABLE' });
  }
  chmodSync(directory, 0o755);
});

test('what is not there, and what is no run, are told apart', (t) => {
  const directory = temporaryDirectory(t);
  t.throws(() => existingRun(join(directory, 'none')), { code: 'SLUICE_E_FILE_MISSING' });
  t.throws(() => existingRun(directory), { code: 'SLUICE_E_RUN_MISSING' });
  symlinkSync('config.yaml', join(directory, 'config.yaml'));
  t.throws(() => existingRun(directory), {
    code: 'SLUICE_E_FILE_MISSING',
    message: /cannot be read \(ELOOP\)/,
  });
});

test('a run is named by its configuration, or by the file’s name', (t) => {
  t.is(runName({ name: 'mine' }, 'configs/a.yaml'), 'mine');
  t.is(runName({}, 'configs/a.b.yaml'), 'a.b');
});

test('paths in shell commands are quoted where they must be', (t) => {
  t.is(shellQuote('runs/quick-start_1'), 'runs/quick-start_1');
  t.is(shellQuote("it's"), "'it'\\''s'");
});

function writeConfig(t: Parameters<typeof temporaryDirectory>[0]): string {
  const path = join(temporaryDirectory(t), 'run.yaml');
  writeFileSync(path, stringify(SMALL_CONFIG));
  return path;
}

test('flags of the command line stand for keys of the configuration', (t) => {
  const path = writeConfig(t);
  const flags = {
    workers: 1,
    expertParallel: 1,
    threads: 3,
    backend: 'cpu',
    precision: 'f32',
    set: ['optimizer.learningRate=2e-3'],
  };
  const config = loadRunConfig(path, flags);
  t.like(config.parallel, { workers: 1, expertParallel: 1, threads: 3 });
  t.like(config, { backend: 'cpu', precision: 'f32' });
  t.is(config.optimizer.learningRate, 0.002);
  t.is(config.data.recipe, join(path, '..', 'recipe.yaml'));
  for (const wrong of [{ backend: 'tpu' }, { precision: 'f16' }])
    t.throws(() => loadRunConfig(path, wrong), { code: 'SLUICE_E_CONFIG_INVALID' });
  // So that configurations from before have the hash that they had.
  t.false('precision' in loadRunConfig(path, {}));
});

test('--workers alone lets the expert-parallel size follow; an explicit size is left for the checks', (t) => {
  const path = writeConfig(t);
  t.is(loadRunConfig(path, { workers: 1 }).parallel.expertParallel, 1);
  t.is(loadRunConfig(path, { workers: 1, expertParallel: 2 }).parallel.expertParallel, 2);
  t.is(loadRunConfig(path, { workers: 1, set: ['parallel.expertParallel=2'] }).parallel.expertParallel, 2);
  t.is(loadRunConfig(path, { set: ['parallel.workers=1'] }).parallel.expertParallel, 2);
});

test('a frozen configuration reads back as it was, and its paths are from where it lies', async (t) => {
  // As a user in the repository names it: relative to the current directory.
  const config = loadRunConfig(relative(process.cwd(), writeConfig(t)), {});
  const frozen = join(temporaryDirectory(t), 'config.yaml');
  await freezeRunConfig(frozen, config);
  t.deepEqual(loadRunConfig(frozen, {}), config);
  const { data } = loadYamlConfig(frozen, RunConfig);
  t.is(join(dirname(frozen), data.recipe!), config.data.recipe!);
  t.false(isAbsolute(data.recipe!));
  t.regex(readFileSync(frozen, 'utf8'), /^# The resolved configuration/);
});
