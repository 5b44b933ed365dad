/** Runs of the real command line on a small corpus, in a folder of their own. */

import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { listGpus } from '../backends/gpus.ts';
import { devicesForWorkers } from '../coordinator/devices.ts';
import { PROGRAM } from '../program.ts';
import type { KitContext } from './step.ts';

export interface TrainedRun {
  readonly weightsHash: string;
  readonly trainLoss: number;
  readonly tokensPerSecond: number;
  readonly runDir: string;
}

/** Lines of a failed run that its error shows. */
const SHOWN_LINES = 12;
/** Of the time that a step has left, what one of its runs may take: one that hangs leaves some to the next. */
const SHARE_OF_TIME = 0.7;

interface ModelSizes {
  readonly hiddenSize: number;
  readonly numLayers: number;
  readonly headDim: number;
  /** A feed-forward's, or that of each of four experts. */
  readonly intermediateSize: number;
  readonly hasExperts?: boolean;
}

export interface RunSizes {
  readonly model: ModelSizes;
  readonly sequenceLength: number;
  readonly steps: number;
  /** Steps from checkpoint to checkpoint; none but the last when left out. */
  readonly checkpointEvery?: number;
}

const VOCABULARY = 320;

/** A configuration of two lanes, so that two workers can share it. */
export function runConfig({ model, sequenceLength, steps, checkpointEvery = 0 }: RunSizes): object {
  const { hasExperts = false, intermediateSize, ...sizes } = model;
  return {
    seed: 1,
    model: {
      ...{ vocabularySize: VOCABULARY, numAttentionHeads: sizes.hiddenSize / sizes.headDim, ...sizes },
      numKeyValueHeads: sizes.hiddenSize / sizes.headDim / 2,
      ...(hasExperts ? { experts: { count: 4, topK: 2, intermediateSize } } : { intermediateSize }),
    },
    data: { recipe: 'recipe.yaml', sequenceLength },
    parallel: { lanes: 2 },
    batch: { sequences: 4, grainSequences: 1 },
    training: { steps },
    optimizer: { learningRate: 1e-3 },
    evaluation: { everySteps: 0 },
    checkpoint: { everySteps: checkpointEvery },
  };
}

export class Laboratory {
  readonly #context: KitContext;

  constructor(context: KitContext) {
    this.#context = context;
    mkdirSync(context.folder, { recursive: true });
    writeFileSync(this.path('text.txt'), corpus());
    const recipe = {
      name: 'kit',
      sources: [{ kind: 'text', path: 'text.txt', documentSeparator: '\n\n' }],
      tokenizer: { kind: 'train', vocabularySize: VOCABULARY },
      validation: { fraction: 0.1 },
    };
    writeFileSync(this.path('recipe.yaml'), JSON.stringify(recipe));
  }

  path(name: string): string {
    return join(this.#context.folder, name);
  }

  /** YAML knows JSON. @returns the file's path */
  write(name: string, config: object): string {
    const file = this.path(name);
    writeFileSync(file, JSON.stringify(config));
    return file;
  }

  train(config: string, name: string, ...flags: string[]): Promise<TrainedRun> {
    return this.sluice<TrainedRun>('train', config, '--run-dir', this.path(name), ...flags);
  }

  /** Runs a command to its end. @returns its object */
  async sluice<T>(...words: string[]): Promise<T> {
    const { folder, endsAtMs } = this.#context;
    const limitMs = SHARE_OF_TIME * (endsAtMs - performance.now());
    const { code, stdout, stderr } = await endOf(words, folder, limitMs);
    if (code === 0) return JSON.parse(lastLine(stdout)) as T;
    const how = code === 'late' ? `did not end in ${(limitMs / 1000).toFixed(0)} s` : `ended with ${code}`;
    throw new Error(failureText(words, how, stdout, stderr));
  }
}

const lastLine = (text: string) => text.trim().split('\n').at(-1) ?? '';

/** What a command has failed with: the reason that its object gives, in the first line, and what it said last. */
export function failureText(words: readonly string[], how: string, stdout: string, stderr: string): string {
  const shown = `${stdout}\n${stderr}`.trim().split('\n').slice(-SHOWN_LINES).join('\n');
  let reason = '';
  try {
    const { code, message } = (JSON.parse(lastLine(stdout)) as { error: { code: string; message: string } })
      .error;
    reason = ` ${code}: ${message}`;
  } catch {
    // It has come to no object.
  }
  return `sluice ${words.join(' ')} ${how}:${reason}\n${shown}`;
}

function endOf(
  words: readonly string[],
  folder: string,
  limitMs: number,
): Promise<{ code: number | null | 'late'; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...words, '--json'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, SLUICE_DATA: join(folder, 'data'), ...devicesForTwo() },
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    // What it has started ends with it, and may keep its output until then.
    const timer = setTimeout(
      () => {
        child.kill('SIGKILL');
        resolve({ code: 'late', stdout, stderr });
      },
      Math.max(0, limitMs),
    );
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/** GPUs for two workers: each its own, or both the one that there is. */
function devicesForTwo(): Readonly<Record<string, string>> {
  const devices = devicesForWorkers(process.env.CUDA_VISIBLE_DEVICES, listGpus());
  // There is one, though nobody could count it: steps before this one have computed on it.
  return {
    CUDA_VISIBLE_DEVICES: devices.join(',') || '0',
    ...(devices.length < 2 && { SLUICE_SHARE_GPUS: '1' }),
  };
}

/** Sentences with something to learn in them, the same everywhere. */
function corpus(): string {
  const nouns = [
    'river',
    'gate',
    'mill',
    'stone',
    'water',
    'bridge',
    'boat',
    'field',
    'wheel',
    'dam',
    'lock',
  ];
  const verbs = ['opens', 'holds', 'turns', 'carries', 'meets', 'follows', 'closes'];
  const sentence = (i: number, j: number) =>
    `the ${nouns[(i * 3 + j) % 11]} ${verbs[(i + j * 5) % 7]} the ${nouns[(i * 7 + j * j) % 11]}, and ${i} and ${j} make ${i + j}.`;
  const documents = Array.from({ length: 200 }, (_, i) =>
    Array.from({ length: 30 }, (_, j) => sentence(i, j)).join(' '),
  );
  return documents.join('\n\n');
}
