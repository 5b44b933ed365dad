/** A folder of its own with a tiny corpus and configurations, and the real command line run in it. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Running, watchProcess } from '../../support/running.ts';

const ownBin = fileURLToPath(new URL('../../../launcher/bin/sluice.js', import.meta.url));

export class Sandbox {
  readonly path = mkdtempSync(join(tmpdir(), 'sluice-e2e-'));
  readonly #running = new Set<ChildProcess>();
  readonly #bin: string;

  /** @param bin the program that is run; the repository's by default */
  constructor(bin = ownBin) {
    this.#bin = bin;
    writeCorpus(this.path);
    for (const kind of ['dense', 'moe'] as const) this.write(`${kind}.yaml`, configuration(kind));
  }

  write(name: string, content: string): string {
    const file = join(this.path, name);
    writeFileSync(file, content);
    return file;
  }

  /** A second corpus, `numbers.yaml`, with the tokenizer of the first, `tiny`, which stands before it in a mixture. */
  writeNumbers(): void {
    this.write(
      'numbers.txt',
      Array.from({ length: 300 }, (_, i) => `${i} and ${i * 3} make ${4 * i}.`).join('\n'),
    );
    this.write(
      'numbers.yaml',
      `name: numbers
sources: [{ kind: text, path: numbers.txt, documentSeparator: "\\n" }]
tokenizer: { kind: file, path: data/prepared/tiny/tokenizer.json }
validation: { fraction: 0.2 }
`,
    );
  }

  /** Starts `sluice` with the words of `command`, and with further variables of the environment. */
  start(command: string, environment: NodeJS.ProcessEnv = {}, cwd = this.path): Running {
    const child = spawn(process.execPath, [this.#bin, ...command.split(' ')], {
      cwd,
      env: { ...process.env, SLUICE_DATA: join(this.path, 'data'), ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#running.add(child);
    const running = watchProcess(child);
    running.ended.then(() => this.#running.delete(child));
    return running;
  }

  /** Runs `sluice … --json` to its end and gives its object. */
  async json<T = Record<string, unknown>>(command: string): Promise<T> {
    const { code, stdout, stderr } = await this.start(`${command} --json`).ended;
    if (code !== 0) throw new Error(`sluice ${command} ended with ${code}:\n${stdout}\n${stderr}`);
    return JSON.parse(stdout) as T;
  }

  dispose(): void {
    for (const child of this.#running) child.kill('SIGKILL');
    rmSync(this.path, { recursive: true, force: true });
  }
}

function writeCorpus(path: string): void {
  const nouns = ['river', 'gate', 'mill', 'stone', 'water', 'bridge', 'boat', 'field'];
  const verbs = ['opens', 'holds', 'turns', 'carries', 'meets', 'follows'];
  mkdirSync(join(path, 'texts'));
  for (let i = 0; i < 60; i++) {
    const sentence = (j: number) =>
      `the ${nouns[(i * 3 + j) % 8]} ${verbs[(i + j * 5) % 6]} the ${nouns[(i * 7 + j * j) % 8]} and number ${(i * j) % 97} .`;
    writeFileSync(
      join(path, 'texts', `${i}.txt`),
      Array.from({ length: 40 }, (_, j) => sentence(j)).join('\n'),
    );
  }
  writeFileSync(
    join(path, 'recipe.yaml'),
    `name: tiny
sources:
  - kind: text
    path: texts
tokenizer:
  kind: train
  vocabularySize: 320
validation:
  fraction: 0.1
`,
  );
}

function configuration(kind: 'dense' | 'moe'): string {
  const inner =
    kind === 'dense'
      ? '  intermediateSize: 48'
      : '  experts: { count: 4, topK: 2, intermediateSize: 24, sharedIntermediateSize: 16 }';
  return `seed: 7
model:
  vocabularySize: 320
  hiddenSize: 32
  numLayers: 2
  numAttentionHeads: 4
  numKeyValueHeads: 2
  headDim: 8
${inner}
  tieWordEmbeddings: ${kind === 'moe'}
data:
  recipe: recipe.yaml
  sequenceLength: 32
parallel:
  lanes: 4
batch:
  sequences: 8
  grainSequences: 2
training:
  steps: 12
optimizer:
  learningRate: 3.0e-3
schedule:
  warmupSteps: 3
evaluation:
  everySteps: 6
  sequences: 5
diagnostics:
  everySteps: 4
  sequences: 5
checkpoint:
  everySteps: 4
  keep: 2
`;
}
