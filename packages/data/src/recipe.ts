/** The data recipe: where text comes from, how it becomes tokens, and what is held out. */

import { folderName, loadYamlConfig, resolvePath } from '@sluice/core';
import { z } from 'zod';
import { NEEDLE_KEYS, type NeedleCounts, needlesUnits } from './needles.ts';

/** A message that shows the offending value. */
const refusal = (reason: string) => (issue: { readonly input?: unknown }) =>
  `${JSON.stringify(issue.input)} ${reason}`;

const path = (description: string) => z.string().min(1).meta({ format: 'path' }).describe(description);

const pattern = (description: string) =>
  z
    .string()
    .min(1)
    .refine(isRegularExpression, { error: refusal('is not a regular expression of JavaScript (flag u)') })
    .describe(description);

const invalidBytes = z
  .enum(['error', 'replace', 'drop'])
  .default('error')
  .describe(
    'What happens to bytes that are no text in the encoding: stop, put U+FFFD, or leave them out. They are counted.',
  );

/** How files become documents. */
const textFields = {
  encoding: z
    .string()
    .refine(isEncoding, { error: refusal('is not an encoding that TextDecoder knows') })
    .default('utf-8')
    .describe('Encoding of the files: utf-8, windows-1252, utf-16le, shift_jis, …'),
  invalidBytes,
  documentSeparator: pattern(
    'Regular expression between two documents of a file, at most 1000 characters a match; a file is one document when left out.',
  ).optional(),
  remove: z
    .array(pattern('Regular expression.'))
    .default([])
    .describe('Regular expressions whose matches are deleted from the text of every document.'),
};

const fileFields = {
  path: path('File or folder (read with its subfolders). Relative paths start from the recipe.'),
};

const glob = z.string().min(1);

/** Which files of a folder are read. */
const patternFields = (include: string[]) => ({
  include: z
    .array(glob)
    .min(1)
    .default(include)
    .describe(
      'Glob patterns; a file of the folder is read when its path below it matches one, with or without the ending of its compression, in upper or lower case.',
    ),
  exclude: z
    .array(glob)
    .default([])
    .describe('Glob patterns of files and folders that are passed over all the same.'),
});

/** How records give text. */
const recordFields = {
  nulls: z
    .enum(['skip', 'error'])
    .default('skip')
    .describe('What happens to a record whose text is null: pass over it and count it, or stop.'),
  missing: z
    .enum(['error', 'skip'])
    .default('error')
    .describe('What happens to a record that lacks the field: stop, or pass over it and count it.'),
  invalidBytes,
};

const WordnetSource = z.strictObject({
  kind: z
    .literal('wordnet')
    .describe('The definitions and examples of WordNet 3.1, told in sentences; comes with the installation.'),
});

const TextSource = z.strictObject({
  kind: z.literal('text').describe('Text files; .gz, .zst, .bz2 and .xz are unpacked while they are read.'),
  ...fileFields,
  ...patternFields(['**/*.txt', '**/*.md']),
  ...textFields,
});

const JsonlSource = z.strictObject({
  kind: z
    .literal('jsonl')
    .describe('Files of one JSON object a line, each a document; .gz, .zst, .bz2 and .xz are unpacked.'),
  ...fileFields,
  ...patternFields(['**/*.jsonl', '**/*.ndjson', '**/*.json']),
  field: z.string().min(1).default('text').describe('Field that holds the text; a.b for a field in a field.'),
  ...recordFields,
});

const ParquetSource = z.strictObject({
  kind: z.literal('parquet').describe('Parquet files, a document a row.'),
  ...fileFields,
  ...patternFields(['**/*.parquet']),
  column: z
    .string()
    .min(1)
    .default('text')
    .describe('Column that holds the text; a.b for a field in a column.'),
  ...recordFields,
});

const DebianSource = z.strictObject({
  kind: z
    .literal('debian')
    .describe('Files of a Debian package, downloaded with apt-get and unpacked with dpkg, not installed.'),
  package: z
    .string()
    .regex(/^[a-z0-9][a-z0-9+.-]+$/, 'must be the name of a Debian package')
    .describe('Name of the package.'),
  ...patternFields(['**/*.txt']),
  format: z
    .enum(['text', 'brs'])
    .default('text')
    .describe(
      'text: text files, perhaps .gz or .dz; brs: the Bible Retrieval System’s compressed data file, a document a chapter.',
    ),
  ...textFields,
});

/** Printable characters of ASCII but the space. */
const MOST_SYMBOLS = 94;

const BigramBackcopySource = z
  .strictObject({
    kind: z
      .literal('bigram-backcopy')
      .describe(
        'A synthetic task: tokens follow a bigram table, but after a trigger the token before it comes again. Take it with a trained tokenizer of 257 tokens.',
      ),
    symbols: z
      .int()
      .min(2)
      .max(MOST_SYMBOLS)
      .default(64)
      .describe('Different symbols, each a character and a token.'),
    triggers: z.int().min(0).default(3).describe('How many of them are triggers.'),
    length: z.int().min(2).default(256).describe('Symbols of a document.'),
    documents: z.int().min(1).describe('Documents; each is drawn anew.'),
    sharpness: z
      .number()
      .min(0)
      .max(16)
      .default(1)
      .describe(
        'Standard deviation of the logarithms of the table’s probabilities before they are normalised: 0 for a uniform table.',
      ),
    seed: z.int().default(0).describe('Of the table and of the documents.'),
  })
  .refine(({ symbols, triggers }) => triggers < symbols, {
    path: ['triggers'],
    error: (issue) => {
      const { symbols, triggers } = issue.input as { symbols: number; triggers: number };
      return `${triggers} triggers are not fewer than the ${symbols} symbols`;
    },
  });

/** As many as there are words for. */
const MOST_NEEDLES = NEEDLE_KEYS.length;

const NeedlesSource = z
  .strictObject({
    kind: z
      .literal('needles')
      .describe(
        'Synthetic retrieval tasks: statements and questions for them, strewn among noise. Take it with a trained tokenizer of 1024 tokens, which makes a token of each word and mark.',
      ),
    task: z
      .enum(['niah', 'vt', 'both'])
      .default('niah')
      .describe(
        'niah: needles in a haystack, each with a question for its value; vt: variable tracking, chains of things that have the value of the one before, with a question for all that have a value; both: one or the other, by chance.',
      ),
    length: z.int().min(1).default(256).describe('Words and punctuation marks of a document.'),
    needles: z.int().min(1).max(MOST_NEEDLES).default(8).describe('Statements of a document (niah).'),
    recalls: z.int().min(1).default(1).describe('Questions for each of them (niah).'),
    chains: z.int().min(1).default(2).describe('Chains of a document, and questions (vt).'),
    hops: z.int().min(0).default(2).describe('Links of a chain after its first statement (vt).'),
    documents: z.int().min(1).describe('Documents; each is drawn anew.'),
    seed: z.int().default(0).describe('Of the documents.'),
  })
  .refine(({ chains, hops }) => chains * (hops + 1) <= MOST_NEEDLES, {
    path: ['chains'],
    error: `chains times one more than hops must be at most ${MOST_NEEDLES}`,
  })
  .refine((task) => needlesUnits(task) <= task.length, {
    path: ['length'],
    error: (issue) => {
      const task = issue.input as NeedleCounts & { readonly length: number };
      return `statements and questions alone are ${needlesUnits(task)} words and marks, more than ${task.length}`;
    },
  });

export const SourceConfig = z.discriminatedUnion('kind', [
  WordnetSource,
  TextSource,
  JsonlSource,
  ParquetSource,
  DebianSource,
  BigramBackcopySource,
  NeedlesSource,
]);

const TrainedTokenizer = z.strictObject({
  kind: z.literal('train').describe('Byte-level BPE, trained on the training split.'),
  vocabularySize: z
    .int()
    .min(257)
    .max(2 ** 20)
    .describe('Tokens of the vocabulary, the 256 bytes and the end-of-text token among them.'),
  minimumFrequency: z.int().min(1).default(2).describe('Occurrences that a pair needs to become a token.'),
  sampleBytes: z
    .int()
    .min(1)
    .default(64 * 2 ** 20)
    .describe('Bytes of text that it is trained on; of a larger corpus, about so much is drawn by document.'),
});

const TokenizerFile = z.strictObject({
  kind: z.literal('file').describe('An existing tokenizer of the Hugging Face format.'),
  path: path('The tokenizer.json, or the folder that holds it. Relative paths start from the recipe.'),
  endOfText: z
    .string()
    .min(1)
    .optional()
    .describe('Token put between documents; found by its usual names when left out.'),
});

export const TokenizerConfig = z.discriminatedUnion('kind', [TrainedTokenizer, TokenizerFile]);

export const ValidationConfig = z.strictObject({
  fraction: z
    .number()
    .min(0)
    .max(0.5)
    .default(0.01)
    .describe('Share of the documents that is held out, chosen by a hash of their text; 0 for none.'),
  seed: z.int().default(0).describe('Key of that hash.'),
});

export const DataRecipe = z.strictObject({
  name: folderName()
    .regex(/^[A-Za-z0-9][A-Za-z0-9._-]*$/, 'may hold letters, digits, dots, dashes and underscores only')
    .describe('Name of the corpus, and of the folder that it is prepared in.'),
  description: z.string().optional().describe('What the corpus is, for people.'),
  sources: z.array(SourceConfig).min(1).describe('Where the text comes from; read in this order.'),
  tokenizer: TokenizerConfig.describe('How text becomes tokens.'),
  validation: ValidationConfig.prefault({}).describe('What is held out.'),
  shardTokens: z
    .int()
    .min(1)
    .default(2 ** 25)
    .describe('Tokens of one shard file.'),
});

export type DataRecipe = z.infer<typeof DataRecipe>;
export type SourceConfig = z.infer<typeof SourceConfig>;
export type SourceOfKind<Kind extends SourceConfig['kind']> = Extract<SourceConfig, { kind: Kind }>;
export type TextOptions = Pick<
  SourceOfKind<'text'>,
  'encoding' | 'invalidBytes' | 'documentSeparator' | 'remove'
>;

export type RecordOptions = Pick<SourceOfKind<'jsonl'>, 'nulls' | 'missing' | 'invalidBytes'>;

/** A recipe with the place that its relative paths start from. */
export interface LoadedRecipe {
  readonly recipe: DataRecipe;
  readonly file: string;
  /** The path that a relative path in the recipe means. */
  resolve(path: string): string;
}

/**
 * Loads and checks a recipe.
 * @throws SLUICE_E_FILE_MISSING, SLUICE_E_CONFIG_SYNTAX, SLUICE_E_CONFIG_INVALID
 */
export function loadRecipe(file: string): LoadedRecipe {
  const recipe = loadYamlConfig(file, DataRecipe);
  return { recipe, file, resolve: (relative) => resolvePath(file, relative) };
}

function isRegularExpression(source: string): boolean {
  try {
    new RegExp(source, 'u');
    return true;
  } catch {
    return false;
  }
}

function isEncoding(label: string): boolean {
  try {
    new TextDecoder(label);
    return true;
  } catch {
    return false;
  }
}
