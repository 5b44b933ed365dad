/** The files of a source: which are read, which are not, and why. */

import { readdirSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { basename, join, sep } from 'node:path';
import { SluiceError } from '@sluice/core';
import picomatch from 'picomatch';
import { withoutPackedEnding } from './compression.ts';
import type { PassedOver, SourceFile } from './source.ts';

export interface FilePatterns {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

export interface FolderListing {
  readonly files: readonly SourceFile[];
  readonly passedOver: readonly PassedOver[];
}

/**
 * The files that a path means: itself, or those below the folder that the patterns select, in the order of their names'
 * code units, which no file system and no locale changes.
 *
 * A pattern is compared with the path below the folder, and with the same without the ending of its compression, upper
 * and lower case alike. Hidden files are read where a pattern spells their dot. Links are followed once: to a file or
 * folder that is read already, or that the folder itself is in, they are passed over.
 *
 * @throws SluiceError SLUICE_E_FILE_MISSING when the path, or what a selected link leads to, does not exist or cannot
 *   be read; SLUICE_E_DATA_EMPTY when no file is selected; SLUICE_E_DATA_TWICE
 */
export function listFiles(path: string, patterns: FilePatterns): FolderListing {
  const stats = statOf(path);
  if (stats.isFile()) return { files: [sourceFile(path, basename(path))], passedOver: [] };
  if (!stats.isDirectory()) throw missing(path, 'is no file and no folder');
  const listing = new Walk(path, patterns).listing();
  if (listing.files.length === 0) {
    const { passedOver } = listing;
    const some = passedOver.slice(0, 5).map(({ name, reason }) => `${name} (${reason})`);
    const more = passedOver.length > some.length ? ` and ${passedOver.length - some.length} more` : '';
    const others = some.length === 0 ? 'it is empty' : `there are ${some.join(', ')}${more}`;
    throw new SluiceError(
      'SLUICE_E_DATA_EMPTY',
      `No file in ${path} matches ${patterns.include.join(', ')}; ${others}.`,
      { details: { path, ...patterns, passedOver: passedOver.slice(0, 100) } },
    );
  }
  refuseTwins(path, listing.files);
  return listing;
}

/** A file that was packed or unpacked beside itself would count twice. */
function refuseTwins(folder: string, files: readonly SourceFile[]): void {
  const byPlainName = new Map<string, string>();
  for (const { name } of files) {
    const plain = withoutPackedEnding(name);
    const twin = byPlainName.get(plain);
    byPlainName.set(plain, name);
    if (twin === undefined) continue;
    throw new SluiceError(
      'SLUICE_E_DATA_TWICE',
      `In ${folder}, ${twin} and ${name} are the same file by their names, and would be read both.`,
      { details: { path: folder, files: [twin, name] } },
    );
  }
}

/** One walk through a folder. What is not a link comes first, so that the names of links never win over real ones. */
class Walk {
  readonly #root: string;
  readonly #realRoot: string;
  readonly #selects: (name: string) => boolean;
  readonly #excludes: (name: string) => boolean;
  readonly #wantsHidden: boolean;
  readonly #files: SourceFile[] = [];
  readonly #passedOver: PassedOver[] = [];
  /** The real paths of all that was met. */
  readonly #seen = new Set<string>();
  readonly #links: string[] = [];

  constructor(root: string, { include, exclude }: FilePatterns) {
    this.#root = root;
    this.#realRoot = realpathSync(root);
    // Upper and lower case alike; a name may begin with a line break.
    const matcher = (globs: readonly string[], dot: boolean) =>
      globs.length === 0 ? () => false : picomatch([...globs], { dot, flags: 'is' });
    const selects = matcher(include, false);
    this.#selects = (name) => selects(name) || selects(withoutPackedEnding(name));
    this.#excludes = matcher(exclude, true);
    this.#wantsHidden = include.some((glob) => /(^|[/{,(])\./.test(glob));
  }

  listing(): FolderListing {
    this.#folder('', this.#realRoot);
    // Links that are found behind links come after those that were there before.
    for (let link = this.#links.shift(); link !== undefined; link = this.#links.shift()) this.#link(link);
    const byName = (a: { name: string }, b: { name: string }): number =>
      a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
    return { files: this.#files.sort(byName), passedOver: this.#passedOver.sort(byName) };
  }

  #folder(prefix: string, real: string): void {
    this.#seen.add(real);
    const links: string[] = [];
    for (const entry of entriesOf(join(this.#root, prefix))) {
      const name = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
      if (entry.isSymbolicLink()) links.push(name);
      else if (entry.isDirectory()) this.#enter(name, join(real, entry.name));
      else if (entry.isFile()) this.#file(name, join(real, entry.name));
      else this.#passOver(name, 'no regular file');
    }
    this.#links.push(...links.sort());
  }

  #enter(name: string, real: string): void {
    if (isHidden(name) && !this.#wantsHidden) this.#passOver(`${name}/`, 'hidden');
    else if (this.#excludes(name) || this.#excludes(`${name}/`)) this.#passOver(`${name}/`, 'exclude');
    else if (this.#seen.has(real)) this.#passOver(`${name}/`, 'read already by another name');
    else this.#folder(name, real);
  }

  #file(name: string, real: string): void {
    const reason = this.#reasonAgainst(name);
    if (reason !== null) {
      this.#passOver(name, reason);
    } else if (this.#seen.has(real)) {
      this.#passOver(name, 'read already by another name');
    } else {
      this.#seen.add(real);
      this.#files.push(sourceFile(join(this.#root, name), name));
    }
  }

  #link(name: string): void {
    const path = join(this.#root, name);
    let real: string;
    let stats: Stats;
    try {
      real = realpathSync(path);
      stats = statSync(real);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      const why = code === 'ENOENT' ? 'is not there' : `cannot be followed (${code})`;
      const reason = `a link to ${readlinkSync(path)}, which ${why}`;
      // What was to be read and is gone must not be left out in silence; other links are no loss.
      if (this.#reasonAgainst(name) === null) throw missing(path, `is ${reason}`, error);
      this.#passOver(name, reason);
      return;
    }
    if (stats.isFile()) {
      this.#file(name, real);
    } else if (!stats.isDirectory()) {
      this.#passOver(name, 'no regular file');
    } else if (`${this.#realRoot}${sep}`.startsWith(real === sep ? sep : `${real}${sep}`)) {
      this.#passOver(`${name}/`, 'a link to a folder that this one is in');
    } else {
      this.#enter(name, real);
    }
  }

  #reasonAgainst(name: string): string | null {
    if (this.#excludes(name)) return 'exclude';
    if (this.#selects(name)) return null;
    return isHidden(name) ? 'hidden' : 'matches no include';
  }

  #passOver(name: string, reason: string): void {
    this.#passedOver.push({ name, reason });
  }
}

function isHidden(name: string): boolean {
  return /(^|\/)\./.test(name);
}

function entriesOf(folder: string) {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    throw missing(folder, `cannot be read (${(error as NodeJS.ErrnoException).code})`, error);
  }
}

export function sourceFile(path: string, name: string): SourceFile {
  const { size, mtimeMs } = statOf(path);
  return { path, name, size, modified: mtimeMs };
}

function statOf(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    const unnameable = path.includes('\ufffd') ? '; its name is no UTF-8: rename it' : '';
    throw missing(path, `cannot be read (${(error as NodeJS.ErrnoException).code}${unnameable})`, error);
  }
}

function missing(path: string, problem: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_FILE_MISSING', `The data source ${path} ${problem}.`, {
    details: { path, errno: (cause as NodeJS.ErrnoException | undefined)?.code },
    cause,
  });
}
