/** Preparation of a corpus: documents become tokens in shards, once, and are found again. */

import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError, writeError } from '@sluice/core';
import { readDocuments, SourceTally, type SplitPart } from './documents.ts';
import { encodeParts } from './encodeParts.ts';
import {
  type DatasetManifest,
  fileEntry,
  type LoadedManifest,
  loadManifest,
  MANIFEST_FILE,
  PREPARATION_VERSION,
  type SplitName,
  TOKENIZER_CONFIG_FILE,
  TOKENIZER_FILE,
} from './manifest.ts';
import { type PreparedCorpus, summarize } from './preparedCorpus.ts';
import type { PrepareOptions, PrepareProgress } from './prepareOptions.ts';
import { type DataRecipe, type LoadedRecipe, loadRecipe } from './recipe.ts';
import { readSourceReport, reportSources, type SourceReport, writeSourceReport } from './sourceReport.ts';
import { estimateUnpacked } from './sources/compression.ts';
import { openSources } from './sources/open.ts';
import { type IntakeCounts, noCounts, type TextSourceReader } from './sources/source.ts';
import { SplitWriter, type TokenType } from './splitWriter.ts';
import { makeStamp, recipeHash, writeStamp } from './stamp.ts';
import { compareText, givenTokenizer, type TextState } from './textState.ts';
import { loadTokenizer, tokenizerFile } from './tokenizer/load.ts';
import type { Tokenizer } from './tokenizer/tokenizer.ts';
import { trainTokenizer } from './tokenizer/train.ts';
import { countTrainingWords } from './trainingWords.ts';
import { UnigramCounter } from './unigram.ts';
import { makeWorkDirectory, refuseForeign, replaceDirectory, restoreReplaced } from './workDirectory.ts';

export interface PrepareSummary extends PreparedCorpus {
  /** False when the corpus was there already and nothing was done. */
  readonly fresh: boolean;
  /** What a user should know of how the tokenizer was read, where something was done. */
  readonly notes: readonly string[];
  /** What each source of the recipe gave, and what it holds that was not read. */
  readonly sources: readonly SourceReport[];
  /** How the text that the recipe names compares with the corpus. */
  readonly text: TextState;
}

/**
 * Prepares the corpus of a recipe, unless it is there and neither the recipe nor a source has changed. A corpus whose text is
 * gone is whole in itself.
 *
 * It is written to a folder of this process and gets its name when it is whole: an interruption, by `signal` or by
 * death, leaves what was there before. Memory does not grow with the corpus.
 *
 * @throws SluiceError SLUICE_E_CONFIG_*, SLUICE_E_FILE_*, SLUICE_E_DATA_*, SLUICE_E_TOKENIZER_INVALID,
 *   SLUICE_E_TOKENIZER_LIBRARY, SLUICE_E_TOKENIZER_TEXT, SLUICE_E_DEBIAN_*, SLUICE_E_DISK_FULL, SLUICE_E_OUTPUT_EXISTS
 *   where the folder holds something else; the signal's reason when it is aborted
 */
export async function prepareData(recipeFile: string, options: PrepareOptions = {}): Promise<PrepareSummary> {
  const { outputRoot = 'data/prepared', downloadRoot = 'data/downloads', force = false, signal } = options;
  const loaded = loadRecipe(recipeFile);
  const { recipe } = loaded;
  const directory = join(outputRoot, recipe.name);
  options.onProgress?.({ stage: 'sources', documents: 0, bytes: 0, tokens: 0, totalBytes: 0 });
  restoreReplaced(outputRoot, recipe.name);
  const present = force ? undefined : loadPrepared(directory, recipe);
  if (present !== undefined && !('unusable' in present)) {
    const { text, sources } = await compareText(loaded, directory, present.manifest, options);
    const isKept = options.changedText === 'keep' || text === 'same' || text === 'gone';
    if (isKept) {
      return {
        ...summarize(directory, present),
        fresh: false,
        notes: [],
        text,
        sources: sources ? reportSources(sources, present.manifest) : readSourceReport(directory),
      };
    }
  }

  refuseForeign(directory);
  const sources = await openSources(loaded, { downloadRoot, signal }).catch((error) => {
    throw present && 'unusable' in present ? withoutCorpus(error, present.unusable, recipeFile) : error;
  });
  const stamp = makeStamp(recipe, sources, givenTokenizer(loaded));
  const work = makeWorkDirectory(outputRoot, recipe.name);
  const preparation = new Preparation(loaded, sources, work, options);
  try {
    const manifest = await preparation.run();
    writeStamp(work, stamp);
    writeSourceReport(work, reportSources(sources, manifest));
    // The manifest comes last: a directory without one is no corpus.
    writeFileSync(join(work, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`, { flush: true });
    replaceDirectory(work, directory);
  } catch (error) {
    throw writeError(directory, error);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const prepared = loadManifest(directory);
  return {
    ...summarize(directory, prepared),
    fresh: true,
    text: 'same',
    notes: preparation.notes,
    sources: reportSources(sources, prepared.manifest),
  };
}

/** One preparation in progress. */
class Preparation {
  readonly #loaded: LoadedRecipe;
  readonly #recipe: DataRecipe;
  readonly #sources: readonly TextSourceReader[];
  readonly #directory: string;
  readonly #options: PrepareOptions;
  readonly #progress = { documents: 0, bytes: 0, tokens: 0, totalBytes: 0 };
  notes: readonly string[] = [];

  constructor(
    loaded: LoadedRecipe,
    sources: readonly TextSourceReader[],
    directory: string,
    options: PrepareOptions,
  ) {
    this.#loaded = loaded;
    this.#recipe = loaded.recipe;
    this.#sources = sources;
    this.#directory = directory;
    this.#options = options;
    this.#progress.totalBytes = estimateUnpacked(sources);
  }

  async run(): Promise<DatasetManifest> {
    const tokenizer = await this.#makeTokenizer();
    this.notes = tokenizer.notes;
    // Whoever loads the corpus's tokenizer is to find the end-of-text token that the recipe named.
    const config = {
      tokenizer_class: 'PreTrainedTokenizerFast',
      eos_token: tokenizer.decode([tokenizer.endOfTextId]),
    };
    writeFileSync(join(this.#directory, TOKENIZER_CONFIG_FILE), `${JSON.stringify(config)}\n`, {
      flush: true,
    });
    return this.#encode(tokenizer);
  }

  async #makeTokenizer(): Promise<Tokenizer> {
    const target = join(this.#directory, TOKENIZER_FILE);
    const { tokenizer } = this.#recipe;
    if (tokenizer.kind === 'file') {
      const file = tokenizerFile(this.#loaded.resolve(tokenizer.path));
      copyFileSync(file, target);
      return loadTokenizer(file, tokenizer);
    }
    const { signal } = this.#options;
    const counts = this.#sources.map(noCounts);
    const { words, isWhole } = await countTrainingWords(
      this.#sources,
      this.#recipe,
      { sampleBytes: tokenizer.sampleBytes, totalBytes: this.#progress.totalBytes },
      { signal, counts, onPart: (part) => this.#report('words', part) },
    );
    if (words.size === 0) throw this.#nothingFound(counts);
    // The guess was too small where counting was broken off; nothing better is known then.
    this.#progress.totalBytes = isWhole ? this.#progress.bytes : 0;
    this.#report('merges');
    const json = await trainTokenizer(words, { ...tokenizer, signal });
    writeFileSync(target, JSON.stringify(json), { flush: true });
    Object.assign(this.#progress, { documents: 0, bytes: 0 });
    return loadTokenizer(target);
  }

  async #encode(tokenizer: Tokenizer): Promise<DatasetManifest> {
    const tokenType: TokenType = tokenizer.vocabularySize <= 1 << 16 ? 'uint16' : 'uint32';
    const writers = {
      train: this.#splitWriter('train', tokenType),
      validation: this.#splitWriter('validation', tokenType),
    };
    const tallies = this.#sources.map(() => new SourceTally());
    const unigram = new UnigramCounter(tokenizer.vocabularySize);
    try {
      const counts = tallies.map((tally) => tally.counts);
      const { validation } = this.#recipe;
      const parts = readDocuments(this.#sources, validation, this.#options.signal, counts);
      for await (const [part, tokens] of encodeParts(tokenizer, parts)) {
        this.#options.signal?.throwIfAborted();
        if (part.last) tokens.push(tokenizer.endOfTextId);
        const writer = writers[part.split];
        if (part.first) writer.beginDocument(part.name, part.source);
        writer.append(tokens, part.bytes);
        unigram.add(part.split, tokens);
        tallies[part.source]!.add(part);
        this.#progress.tokens += tokens.length;
        this.#report('encode', part);
      }
      this.#checkSplits(writers, counts);
      const splits = { train: writers.train.finish(), validation: writers.validation.finish() };
      return {
        format: 'sluice-tokens',
        preparationVersion: PREPARATION_VERSION,
        name: this.#recipe.name,
        recipeHash: recipeHash(this.#recipe),
        tokenizer: {
          ...fileEntry(this.#directory, TOKENIZER_FILE),
          vocabularySize: tokenizer.vocabularySize,
          endOfTextId: tokenizer.endOfTextId,
        },
        tokenizerConfig: fileEntry(this.#directory, TOKENIZER_CONFIG_FILE),
        tokenType,
        shardTokens: this.#recipe.shardTokens,
        sources: tallies.map((tally, i) => ({
          label: this.#sources[i]!.label,
          documents: tally.documents,
          bytes: tally.bytes,
          sha256: tally.digest(),
          files: this.#sources[i]!.files.length,
          ...tally.counts,
        })),
        splits,
        bytesPerToken:
          (splits.train.bytes + splits.validation.bytes) / (writers.train.tokens + writers.validation.tokens),
        unigramLoss: unigram.loss(),
      };
    } finally {
      writers.train.abandon();
      writers.validation.abandon();
    }
  }

  #splitWriter(split: SplitName, tokenType: TokenType): SplitWriter {
    return new SplitWriter({
      directory: this.#directory,
      split,
      tokenType,
      shardTokens: this.#recipe.shardTokens,
    });
  }

  #checkSplits(
    { train, validation }: Readonly<Record<SplitName, SplitWriter>>,
    counts: readonly IntakeCounts[],
  ): void {
    if (train.tokens + validation.tokens === 0) throw this.#nothingFound(counts);
    const { fraction } = this.#recipe.validation;
    const empty =
      train.tokens === 0 ? 'training' : validation.tokens === 0 && fraction > 0 ? 'validation' : null;
    if (empty === null) return;
    const { documents } = this.#progress;
    throw new SluiceError(
      'SLUICE_E_DATA_SPLIT_EMPTY',
      `Of ${documents} document${documents === 1 ? '' : 's'}, none fell into the ${empty} split (validation.fraction is ${fraction}).`,
      { details: { recipe: this.#loaded.file, documents, fraction } },
    );
  }

  #nothingFound(counts: readonly IntakeCounts[]): SluiceError {
    const total = (key: keyof IntakeCounts): number => counts.reduce((sum, each) => sum + each[key], 0);
    const leftOut = [
      `${total('nullRecords')} records with null`,
      `${total('missingRecords')} without the field`,
      `${total('blankDocuments')} blank documents`,
    ];
    return new SluiceError(
      'SLUICE_E_DATA_EMPTY',
      `The sources of ${this.#loaded.file} hold no text; passed over were ${leftOut.join(', ')}.`,
      { details: { recipe: this.#loaded.file } },
    );
  }

  #report(stage: PrepareProgress['stage'], part?: SplitPart): void {
    if (part !== undefined) {
      this.#progress.bytes += part.bytes;
      if (part.last) this.#progress.documents++;
    }
    this.#options.onProgress?.({ stage, ...this.#progress });
  }
}

/** The corpus of a recipe as far as it is there and whole, or why it cannot be used. */
function loadPrepared(directory: string, recipe: DataRecipe): LoadedManifest | { readonly unusable: string } {
  try {
    const loaded = loadManifest(directory);
    return loaded.manifest.recipeHash === recipeHash(recipe)
      ? loaded
      : { unusable: `The corpus in ${directory} was prepared from another recipe.` };
  } catch (error) {
    if (error instanceof SluiceError) return { unusable: error.message };
    throw error;
  }
}

/** The error of a source that is missing, where there are no tokens that could do without it. */
function withoutCorpus(error: unknown, unusable: string, recipeFile: string): unknown {
  if (!(error instanceof SluiceError)) return error;
  return new SluiceError(
    error.code,
    `${error.message} ${unusable} Once the source is there, this makes it again: sluice data prepare ${recipeFile}`,
    { details: { ...error.details, recipe: recipeFile }, cause: error },
  );
}
