/** What a prepared corpus is: counts, hashes and where its tokens lie. Written last, so that it vouches for the rest. */

import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError, sha256 } from '@sluice/core';
import { z } from 'zod';

export const MANIFEST_FILE = 'manifest.json';
export const TOKENIZER_FILE = 'tokenizer.json';
/** Says which token ends a document, in the words of Hugging Face's `transformers`. */
export const TOKENIZER_CONFIG_FILE = 'tokenizer_config.json';
/** What the sources looked like. No part of the corpus, as the next. */
export const STAMP_FILE = 'stamp.json';
export const SOURCE_REPORT_FILE = 'sources.json';
/**
 * Raised when the same recipe and sources would no longer give the same files, of almost any text: corpora of before are read no more.
 * What concerns few texts, their hashes tell.
 */
export const PREPARATION_VERSION = 3;

const FileEntry = z.strictObject({ file: z.string(), bytes: z.int().min(0), sha256: z.string() });
const ShardEntry = FileEntry.extend({ tokens: z.int().min(1) });

const SplitManifest = z.strictObject({
  tokens: z.int().min(0).describe('Tokens, the end-of-text ones among them.'),
  documents: z.int().min(0),
  bytes: z.int().min(0).describe('Bytes of text in UTF-8.'),
  shards: z.array(ShardEntry).describe('Token files; all but the last hold `shardTokens` tokens.'),
  index: FileEntry.describe('A record a document; see documentIndex.ts.'),
  names: FileEntry.describe('The names of the documents, in UTF-8, one after another.'),
});

export const DatasetManifest = z.strictObject({
  format: z.literal('sluice-tokens'),
  preparationVersion: z.literal(PREPARATION_VERSION),
  name: z.string(),
  recipeHash: z.string(),
  tokenizer: FileEntry.extend({ vocabularySize: z.int().min(1), endOfTextId: z.int().min(0) }),
  tokenizerConfig: FileEntry,
  tokenType: z.enum(['uint16', 'uint32']).describe('Type of a token in the shards, little-endian.'),
  shardTokens: z.int().min(1),
  sources: z.array(
    z.strictObject({
      label: z.string(),
      documents: z.int().min(0),
      bytes: z.int().min(0),
      sha256: z.string().describe('Hash of all names and texts of the source, in order.'),
      files: z.int().min(0).describe('Files that were read.'),
      nullRecords: z.int().min(0).describe('Records that were passed over since their text is null.'),
      missingRecords: z.int().min(0).describe('Records that were passed over since they lack the field.'),
      blankDocuments: z.int().min(0).describe('Documents that were passed over since they are white space.'),
      invalidSequences: z
        .int()
        .min(0)
        .describe('Sequences of bytes that are no text, and were replaced or dropped.'),
    }),
  ),
  splits: z.strictObject({ train: SplitManifest, validation: SplitManifest }),
  bytesPerToken: z.number().describe('Bytes of text for each token, over both splits.'),
  unigramLoss: z
    .number()
    .nullable()
    .describe(
      'Cross-entropy in nats a token, on the validation split, of the training split’s token frequencies.',
    ),
});

export type DatasetManifest = z.infer<typeof DatasetManifest>;
export type SplitManifest = z.infer<typeof SplitManifest>;
export type SplitName = keyof DatasetManifest['splits'];
export type FileEntry = z.infer<typeof FileEntry>;

/** A manifest with the hash of its bytes, which names the corpus: the same text and tokenizer give the same hash. */
export interface LoadedManifest {
  readonly manifest: DatasetManifest;
  readonly manifestHash: string;
}

/**
 * Reads the manifest and checks that every file is there, in its full length.
 * @throws SluiceError SLUICE_E_DATA_NOT_PREPARED, SLUICE_E_DATA_DAMAGED
 */
export function loadManifest(directory: string): LoadedManifest {
  const path = join(directory, MANIFEST_FILE);
  if (!existsSync(path)) {
    throw new SluiceError('SLUICE_E_DATA_NOT_PREPARED', `${directory} holds no prepared corpus.`, {
      details: { directory },
    });
  }
  const text = readFileSync(path, 'utf8');
  const manifest = parseManifest(path, text);
  for (const { file, bytes } of manifestFiles(manifest)) checkSize(join(directory, file), bytes);
  return { manifest, manifestHash: sha256(text) };
}

function parseManifest(path: string, text: string): DatasetManifest {
  try {
    return DatasetManifest.parse(JSON.parse(text));
  } catch (error) {
    throw damaged(path, 'it is not a manifest of this version', error);
  }
}

/** All the files that a manifest vouches for. */
export function manifestFiles({ tokenizer, tokenizerConfig, splits }: DatasetManifest): FileEntry[] {
  const ofSplit = ({ shards, index, names }: SplitManifest): FileEntry[] => [...shards, index, names];
  return [tokenizer, tokenizerConfig, ...ofSplit(splits.train), ...ofSplit(splits.validation)];
}

/** Whether a name is one that a prepared corpus may hold. */
export function isCorpusFile(name: string): boolean {
  const others = [MANIFEST_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, STAMP_FILE, SOURCE_REPORT_FILE];
  return others.includes(name) || /^(train|validation)(-\d+\.bin|\.index|\.names)$/.test(name);
}

/** Reads every byte of the corpus and compares the hashes. */
export function verifyFiles(directory: string, manifest: DatasetManifest): void {
  for (const { file, sha256: expected } of manifestFiles(manifest)) {
    const path = join(directory, file);
    if (hashFile(path) !== expected)
      throw damaged(path, 'its contents do not match the hash in the manifest');
  }
}

export function damaged(path: string, reason: string, cause?: unknown): SluiceError {
  return new SluiceError('SLUICE_E_DATA_DAMAGED', `The corpus file ${path} is damaged: ${reason}.`, {
    details: { path },
    cause,
  });
}

function checkSize(path: string, bytes: number): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) throw damaged(path, 'it is missing');
  if (size !== bytes) throw damaged(path, `it has ${size} bytes where the manifest says ${bytes}`);
}

/** The entry of a file that is there. */
export function fileEntry(directory: string, file: string): FileEntry {
  const path = join(directory, file);
  return { file, bytes: statSync(path).size, sha256: hashFile(path) };
}

/** SHA-256 of a file, read in pieces. */
function hashFile(path: string): string {
  const hash = createHash('sha256');
  const piece = Buffer.alloc(1 << 20);
  const file = openSync(path, 'r');
  try {
    for (let length = readSync(file, piece); length > 0; length = readSync(file, piece)) {
      hash.update(piece.subarray(0, length));
    }
  } finally {
    closeSync(file);
  }
  return hash.digest('hex');
}
