import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { PrepareOptions } from '@sluice/data';
import type { ExecutionContext } from 'ava';

/** A folder for one test, removed after it. */
export class TestFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'sluice-data-'));

  constructor(t: ExecutionContext) {
    t.teardown(() => rmSync(this.path, { recursive: true, force: true }));
  }

  at(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  /** Writes a file and the folders above it. */
  write(name: string, content: string | Uint8Array): string {
    const path = this.at(name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    return path;
  }

  /** Options that keep a preparation inside the folder. */
  get options(): PrepareOptions {
    return { outputRoot: this.at('prepared'), downloadRoot: this.at('downloads') };
  }

  /** Writes a recipe in JSON, which is YAML too. */
  recipe(fields: Record<string, unknown>): string {
    return this.write(
      'recipe.yaml',
      JSON.stringify({
        name: 'corpus',
        tokenizer: { kind: 'train', vocabularySize: 300 },
        validation: { fraction: 0.25 },
        ...fields,
      }),
    );
  }

  /** Writes numbered documents as JSONL, and a recipe that reads them. */
  jsonlRecipe(texts: readonly string[], fields: Record<string, unknown> = {}): string {
    this.write('docs.jsonl', texts.map((text) => `${JSON.stringify({ text })}\n`).join(''));
    return this.recipe({ sources: [{ kind: 'jsonl', path: 'docs.jsonl' }], ...fields });
  }
}

/** Short stories that differ from each other. */
export function stories(count: number): string[] {
  const animals = ['heron', 'otter', 'badger', 'vole', 'kingfisher'];
  const deeds = ['opened the gate', 'watched the water', 'counted the eels', 'slept by the weir'];
  return Array.from(
    { length: count },
    (_, i) =>
      `Story ${i}. The ${animals[i % 5]} ${deeds[i % 4]} ${'again and '.repeat(i % 7)}again, on day ${i * 37}.`,
  );
}
