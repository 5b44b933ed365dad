import {
  existsSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type FileOperations, nodeFiles, randomKey, randomUniform } from '@sluice/core';

/** The error of a process that is no more. */
export class Crash extends Error {}

/** The file system without waiting for the disk: for tests that no power cut concerns. */
export const hastyFiles: FileOperations = {
  ...nodeFiles,
  create: async (path) => {
    const file = await nodeFiles.create(path);
    return {
      write: (bytes, position) => file.write(bytes, position),
      sync: async () => undefined,
      close: () => file.close(),
    };
  },
  syncDirectory: async () => undefined,
};

/** The file system, refusing every write from the `n`-th on with an error of the operating system. */
export function refusingAt(n: number, code: string): FileOperations {
  let writes = 0;
  return {
    ...nodeFiles,
    create: async (path) => {
      const file = await nodeFiles.create(path);
      return {
        write: async (bytes, position) => {
          if (writes++ < n) return file.write(bytes, position);
          // A full disk takes what still fits.
          await file.write(bytes.subarray(0, bytes.length >> 1), position);
          throw Object.assign(new Error(code), { code });
        },
        sync: () => file.sync(),
        close: () => file.close(),
      };
    },
  };
}

/**
 * The file system of a machine that stops at the `n`-th operation: that one, and all that follow, fail. `cutPower`
 * then takes away, at random, what had not been forced to the disk: content of files, and changes of names.
 */
export class CrashingFiles implements FileOperations {
  operations = 0;
  /** The last operation that was carried out, and on what. */
  last = '';
  readonly #limit: number;
  readonly #failure: () => Error;
  /** Directory for content that a change of names has not yet destroyed for good. */
  readonly #graveyard: string;
  readonly #unsyncedContent = new Set<string>();
  /** For each directory, how to take back the changes of names in it that were not forced to the disk, newest last. */
  readonly #undo = new Map<string, (() => void)[]>();
  #graves = 0;

  /** @param failure what each operation fails with from the limit on */
  constructor(limit: number, graveyard: string, failure: () => Error = () => new Crash('crash')) {
    this.#limit = limit;
    this.#failure = failure;
    this.#graveyard = graveyard;
    mkdirSync(graveyard, { recursive: true });
  }

  #step(operation: string, path: string): void {
    if (this.operations++ >= this.#limit) throw this.#failure();
    this.last = `${operation} ${basename(path)}`;
  }

  /** Keeps the file at `path`, so that it can be put back. */
  #bury(path: string): () => void {
    const grave = join(this.#graveyard, String(this.#graves++));
    linkSync(path, grave);
    return () => {
      if (existsSync(dirname(path)) && !existsSync(path)) writeFileSync(path, readFileSync(grave));
    };
  }

  #changed(path: string, undo: () => void): void {
    const list = this.#undo.get(dirname(path)) ?? [];
    list.push(undo);
    this.#undo.set(dirname(path), list);
  }

  async create(path: string) {
    this.#step('create', path);
    const file = await nodeFiles.create(path);
    this.#unsyncedContent.add(path);
    this.#changed(path, () => rmSync(path, { force: true }));
    return {
      write: async (bytes: Uint8Array, position: number) => {
        try {
          this.#step('write', path);
        } catch (crash) {
          await file.write(bytes.subarray(0, bytes.length >> 1), position);
          throw crash;
        }
        await file.write(bytes, position);
      },
      sync: async () => {
        this.#step('sync', path);
        this.#unsyncedContent.delete(path);
      },
      close: () => file.close(),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.#step('rename', to);
    const restore = existsSync(to) ? this.#bury(to) : () => rmSync(to, { force: true });
    await nodeFiles.rename(from, to);
    if (this.#unsyncedContent.delete(from)) this.#unsyncedContent.add(to);
    this.#changed(to, () => {
      if (existsSync(to)) renameSync(to, from);
      restore();
    });
  }

  async unlink(path: string): Promise<void> {
    this.#step('unlink', path);
    const restore = this.#bury(path);
    await nodeFiles.unlink(path);
    this.#changed(path, restore);
  }

  async makeDirectory(path: string): Promise<void> {
    this.#step('makeDirectory', path);
    const missing: string[] = [];
    for (let one = path; !existsSync(one); one = dirname(one)) missing.push(one);
    await nodeFiles.makeDirectory(path);
    for (const one of missing) this.#changed(one, () => rmSync(one, { recursive: true, force: true }));
  }

  async removeDirectory(path: string): Promise<void> {
    this.#step('removeDirectory', path);
    await nodeFiles.removeDirectory(path);
    this.#changed(path, () => mkdirSync(path, { recursive: true }));
  }

  async syncDirectory(path: string): Promise<void> {
    this.#step('syncDirectory', path);
    this.#undo.delete(path);
  }

  cutPower(seed: number): void {
    let draws = 0;
    const draw = (bound: number) => Math.floor(randomUniform(randomKey(seed, 'power'), draws++) * bound);
    for (const path of this.#unsyncedContent) {
      if (!existsSync(path)) continue;
      const { length } = readFileSync(path);
      if (draw(2) === 0) truncateSync(path, draw(length + 1));
    }
    // Which of the changes in a directory lasted, only the disk knows: some keep their order, others do not.
    for (const undos of this.#undo.values()) {
      const kept = draw(2) === 0 ? draw(undos.length + 1) : undefined;
      const lost = undos.filter((_, i) => (kept === undefined ? draw(2) === 0 : i >= kept));
      for (const undo of lost.reverse()) undo();
    }
  }
}
