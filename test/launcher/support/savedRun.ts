/** A run directory with checkpoints, made without workers: a corpus of a few sentences, and tensors of zeros. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeShard } from '@sluice/checkpoint';
import { modelTensors } from '@sluice/model';
import { RunConfig } from '@sluice/train';
import type { ExecutionContext } from 'ava';
import { stringify } from 'yaml';
import { type CheckpointWriter, saveCheckpoint } from '../../../launcher/src/coordinator/checkpoints.ts';
import { prepareCorpora } from '../../../launcher/src/coordinator/corpora.ts';
import { initialState } from '../../../launcher/src/coordinator/state.ts';
import type { Workers } from '../../../launcher/src/coordinator/workers.ts';
import { openJournal } from '../../../launcher/src/run/journal.ts';
import { freezeRunConfig } from '../../../launcher/src/run/runConfig.ts';
import { makeRunDirectory, type RunDirectory } from '../../../launcher/src/run/runDirectory.ts';
import { adoptTokenizer } from '../../../launcher/src/run/runTokenizer.ts';
import { temporaryDirectory } from '../../support/temporaryDirectory.ts';
import { SMALL_CONFIG } from './config.ts';
import { fakeWorkers } from './fakeWorkers.ts';

export interface SavedRun {
  readonly run: RunDirectory;
  readonly config: RunConfig;
  /** The one file that the corpus is made of. */
  readonly textFile: string;
  /** Saves a checkpoint as the coordinator does. */
  save(step: number, workers?: Workers): Promise<{ path: string; weights: string }>;
}

/** One worker that holds everything and writes a real shard. */
export function savingWorker(): Workers {
  const workers = fakeWorkers(() => ({}), 1);
  const call = workers.call.bind(workers);
  workers.call = async (method, request) => {
    const answers = await call(method, request);
    if (method !== 'save') return answers;
    const { directory } = request as { directory: string };
    const shard = await writeShard(directory, 0, allPieces());
    return answers.map((answer) => ({ ...answer, shard })) as typeof answers;
  };
  return workers;
}

const MODEL = { ...SMALL_CONFIG.model, vocabularySize: 300 };

function allPieces() {
  const tensors = modelTensors(RunConfig.parse({ ...SMALL_CONFIG, model: MODEL }).model);
  return (['parameter', 'firstMoment', 'secondMoment'] as const).flatMap((kind) =>
    tensors.map(({ name, shape, size }) => ({
      tensor: { name, shape },
      kind,
      begin: 0,
      end: size,
      values: new Float32Array(size),
    })),
  );
}

/** Sets SLUICE_DATA for the whole test process, to a directory of its own. */
export async function makeSavedRun(t: ExecutionContext): Promise<SavedRun> {
  const directory = temporaryDirectory(t);
  process.env.SLUICE_DATA = join(directory, 'data');
  const textFile = join(directory, 'texts', 'a.txt');
  mkdirSync(join(directory, 'texts'));
  writeFileSync(textFile, sentences(300));
  const recipe = join(directory, 'recipe.yaml');
  writeFileSync(
    recipe,
    stringify({
      name: 'sentences',
      sources: [{ kind: 'text', path: 'texts', include: ['**/*.txt'], documentSeparator: '\n' }],
      tokenizer: { kind: 'train', vocabularySize: 300 },
      validation: { fraction: 0.2 },
    }),
  );
  const config = RunConfig.parse({
    ...SMALL_CONFIG,
    model: MODEL,
    data: { ...SMALL_CONFIG.data, recipe },
  });
  const corpora = await prepareCorpora(config.data, () => {});
  const run = makeRunDirectory(join(directory, 'run'));
  const tokenizer = await adoptTokenizer(run, config, corpora.directories[0]!);
  await freezeRunConfig(run.config, config);
  const journal = openJournal(run.journal);
  t.teardown(() => journal.close());
  journal.append('start', 0, {
    configHash: '',
    datasetHash: corpora.datasetHash,
    workers: 2,
    expertParallel: 2,
    tokenizer,
  });
  const writer: Omit<CheckpointWriter, 'workers'> = {
    run,
    config,
    corpora,
    tokenizer,
    tensors: () => modelTensors(config.model).map(({ name, shape }) => ({ name, shape })),
    journal,
    assertOwned: () => {},
    warn: () => {},
    remains: new Set(),
  };
  const save = async (step: number, workers: Workers = savingWorker()) => {
    const saved = await saveCheckpoint(
      { ...writer, workers },
      { ...initialState({ loss: [], gradientNorm: [] }), step, trainLoss: 5, validationLoss: 4.5 },
    );
    if ('unsound' in saved) throw new Error(saved.unsound);
    return saved;
  };
  return { run, config, textFile, save };
}

export function sentences(count: number): string {
  const words = ['the', 'gate', 'opens', 'water', 'flows', 'slowly', 'down', 'a', 'long', 'channel'];
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: 12 }, (_, j) => words[(i * 7 + j * (1 + (i % 3))) % words.length]).join(' '),
  ).join('\n');
}
