/** All that a run reads: the corpus of its recipe, or those of its mixture. */

import { SluiceError } from '@sluice/core';
import type { DataConfig } from './config.ts';
import { type Dataset, openDataset, refuseChanged } from './dataset.ts';
import { apportion } from './mixture.ts';
import { type MixedCorpus, MixtureSampler, mixturePhases } from './mixtureSampler.ts';
import type { Sampler } from './sampler.ts';

/** The validation split of one corpus. */
export interface ValidationPart {
  /** The name of the corpus. */
  readonly name: string;
  /** Its weight in the mixture, at the beginning of the run. */
  readonly weight: number;
  readonly source: Sampler;
}

export interface RunData {
  readonly train: Sampler | MixtureSampler;
  /** Of the corpora that hold something out, in their order. */
  readonly validation: readonly ValidationPart[];
  /** Closes the files. */
  close(): void;
}

/** The recipes that a run reads, in their order. */
export function recipesOf({ recipe, mixture }: Pick<DataConfig, 'recipe' | 'mixture'>): readonly string[] {
  return mixture?.recipes ?? [recipe!];
}

/** What names the corpora of a run: the hash of its corpus, or those of a mixture, in its order. */
export function joinHashes(manifestHashes: readonly string[]): string {
  return manifestHashes.join('+');
}

/** The hashes of the corpora that a name of `joinHashes` stands for. */
export function splitHashes(datasetHash: string): string[] {
  return datasetHash.split('+');
}

/**
 * Opens what a run reads.
 * @param directories of the prepared corpora, in the order of `recipesOf`
 * @param datasetHash what names them, where others are to be refused
 * @throws SluiceError SLUICE_E_MIXTURE_TOKENIZER, SLUICE_E_DATASET_CHANGED, and the errors of `openDataset` and `Dataset.sampler`
 */
export function openRunData(
  data: DataConfig,
  seed: number,
  directories: readonly string[],
  datasetHash?: string,
): RunData {
  const datasets = directories.map(openDataset);
  const close = () => {
    for (const dataset of datasets) dataset.close();
  };
  try {
    const hashes = datasetHash === undefined ? [] : splitHashes(datasetHash);
    for (const [i, hash] of hashes.entries()) {
      const { manifestHash: now, directory } = datasets[i]!;
      refuseChanged(hash, { now, directory });
    }
    refuseOtherTokenizers(datasets);
    return {
      train: trainingSource(datasets, data, seed),
      validation: validationParts(datasets, data, seed),
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

function trainingSource(
  datasets: readonly Dataset[],
  data: DataConfig,
  seed: number,
): Sampler | MixtureSampler {
  const corpora = datasets.map(
    (dataset): MixedCorpus => ({
      name: dataset.manifest.name,
      sampler: dataset.sampler({ ...data, split: 'train', seed }),
    }),
  );
  if (!data.mixture) return corpora[0]!.sampler;
  return new MixtureSampler(corpora, mixturePhases(data), seed);
}

function validationParts(datasets: readonly Dataset[], data: DataConfig, seed: number): ValidationPart[] {
  return datasets.flatMap((dataset, i) => {
    if (!dataset.holdsOut) return [];
    const source = dataset.sampler({ ...data, split: 'validation', seed });
    return [{ name: dataset.manifest.name, weight: data.mixture?.weights[i] ?? 1, source }];
  });
}

/** The same id must mean the same in all corpora. */
function refuseOtherTokenizers([first, ...others]: readonly Dataset[]): void {
  const { sha256, endOfTextId } = first!.manifest.tokenizer;
  for (const { directory, manifest } of others) {
    const { tokenizer } = manifest;
    if (tokenizer.sha256 === sha256 && tokenizer.endOfTextId === endOfTextId) continue;
    throw new SluiceError(
      'SLUICE_E_MIXTURE_TOKENIZER',
      `The corpora of a mixture must have one tokenizer, but ${directory} has another than ${first!.directory}.`,
      { details: { directories: [first!.directory, directory] } },
    );
  }
}

/**
 * How many sequences of each part are scored, of `total` in all: in proportion to the weights, as far as there are so many, and
 * at least one of each.
 */
export function validationShares(
  parts: readonly { readonly weight: number; readonly source: Pick<Sampler, 'numSequences'> }[],
  total: number,
): number[] {
  // A corpus may have no weight at the beginning of a run, and some later.
  const hasWeight = parts.some(({ weight }) => weight > 0);
  const shares = apportion(total, hasWeight ? parts.map(({ weight }) => weight) : parts.map(() => 1));
  return shares.map((share, i) => Math.min(Math.max(share, 1), parts[i]!.source.numSequences));
}
