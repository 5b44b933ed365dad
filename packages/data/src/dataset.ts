import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError, sha256 } from '@sluice/core';
import {
  type DatasetManifest,
  type LoadedManifest,
  loadManifest,
  MANIFEST_FILE,
  type SplitName,
  verifyFiles,
} from './manifest.ts';
import { Sampler, type SamplerOptions } from './sampler.ts';
import { SplitReader } from './splitReader.ts';
import { isSameTokenizer, tokenId } from './tokenizer/load.ts';

/**
 * Opens a prepared corpus for reading. Nothing but the manifest is held in memory; tokens are read where they lie. Reading
 * fails with SLUICE_E_DATASET_CHANGED where another corpus has taken its place before a file was opened.
 * @param directory a folder that `prepareData` made
 * @throws SluiceError SLUICE_E_DATA_NOT_PREPARED; SLUICE_E_DATA_DAMAGED when a file is missing or has another length
 */
export function openDataset(directory: string): Dataset {
  const place = placeOfManifest(directory);
  const { manifest, manifestHash } = loadManifest(directory);
  return new Dataset(directory, { manifest, manifestHash, place });
}

/** Tells the manifest from another file that takes its place; undefined where there is none. */
function placeOfManifest(directory: string): string | undefined {
  const file = statSync(join(directory, MANIFEST_FILE), { throwIfNoEntry: false });
  return file && `${file.dev}:${file.ino}:${file.mtimeMs}`;
}

/** @throws SLUICE_E_DATASET_CHANGED where a folder holds another corpus than the one of a hash */
export function refuseChanged(
  hash: string,
  { now, directory }: { readonly now: string; readonly directory: string },
): void {
  if (now === hash) return;
  throw new SluiceError(
    'SLUICE_E_DATASET_CHANGED',
    `${directory} held the corpus ${hash}, and holds ${now} now: it was prepared anew meanwhile.`,
    { details: { saved: hash, now, directory } },
  );
}

export class Dataset {
  readonly directory: string;
  readonly manifest: DatasetManifest;
  /** Names the corpus: equal text, recipe and tokenizer give an equal hash on any machine. */
  readonly manifestHash: string;
  readonly #splits: Readonly<Record<SplitName, SplitReader>>;
  #place: string | undefined;

  constructor(
    directory: string,
    { manifest, manifestHash, place }: LoadedManifest & { readonly place: string | undefined },
  ) {
    this.directory = directory;
    this.manifest = manifest;
    this.manifestHash = manifestHash;
    this.#place = place;
    const refuseOther = () => this.#refuseOther();
    this.#splits = {
      train: new SplitReader(directory, manifest, 'train', refuseOther),
      validation: new SplitReader(directory, manifest, 'validation', refuseOther),
    };
  }

  /** The corpus's own copy of its `tokenizer.json`. */
  get tokenizerPath(): string {
    return join(this.directory, this.manifest.tokenizer.file);
  }

  /**
   * Whether a `tokenizer.json` gives texts the ids of this corpus, whatever it puts around them.
   * @throws SluiceError SLUICE_E_TOKENIZER_INVALID
   */
  hasTokenizer(path: string): boolean {
    const isCopy = sha256(readFileSync(path)) === this.manifest.tokenizer.sha256;
    return isCopy || isSameTokenizer(path, this.tokenizerPath);
  }

  /** The token between two documents, as it is written. */
  get endOfText(): string {
    const config = readFileSync(join(this.directory, this.manifest.tokenizerConfig.file), 'utf8');
    return (JSON.parse(config) as { eos_token: string }).eos_token;
  }

  /** Whether there is a validation split. */
  get holdsOut(): boolean {
    return this.manifest.splits.validation.tokens > 0;
  }

  /**
   * The sequences of a split, in the order of a seed.
   * @throws SluiceError SLUICE_E_DATA_SPLIT_EMPTY when there is no such split, SLUICE_E_DATA_TOO_SMALL when it is shorter
   *   than one sequence, SLUICE_E_TOKEN_UNKNOWN when the tokenizer lacks the beginning token
   */
  sampler(options: SamplerOptions): Sampler {
    const reader = this.#splits[options.split];
    if (reader.tokens === 0) {
      throw new SluiceError(
        'SLUICE_E_DATA_SPLIT_EMPTY',
        `${this.directory} has no ${options.split} split: its recipe holds nothing out.`,
        { details: { directory: this.directory, split: options.split } },
      );
    }
    const end = this.manifest.tokenizer.endOfTextId;
    const begin =
      options.beginning === undefined ? undefined : tokenId(this.tokenizerPath, options.beginning);
    const sampler = new Sampler(reader, { begin, end }, options);
    if (sampler.numSequences === 0) {
      throw new SluiceError(
        'SLUICE_E_DATA_TOO_SMALL',
        `The ${options.split} split of ${this.directory} has ${reader.tokens} tokens; a sequence of ${options.sequenceLength} needs ${options.sequenceLength + 1}.`,
        { details: { directory: this.directory, ...options, tokens: reader.tokens } },
      );
    }
    return sampler;
  }

  /**
   * Reads every file and compares it with its hash.
   * @throws SluiceError SLUICE_E_DATA_DAMAGED, with the file
   */
  verify(): void {
    verifyFiles(this.directory, this.manifest);
  }

  /** Files are opened when they are needed, and somebody may have prepared another corpus in this place by then. */
  #refuseOther(): void {
    const place = placeOfManifest(this.directory);
    if (place === this.#place) return;
    refuseChanged(this.manifestHash, {
      now: loadManifest(this.directory).manifestHash,
      directory: this.directory,
    });
    this.#place = place;
  }

  /** Closes the files; they are opened again when something is read. */
  close(): void {
    this.#splits.train.close();
    this.#splits.validation.close();
  }
}
