import { loadTokenizer, openDataset, type SplitName } from '@sluice/data';

/** All documents of a prepared corpus as text, by split, read through samples and their provenance. */
export function documentsOf(directory: string, split: SplitName): Map<string, string> {
  const dataset = openDataset(directory);
  const tokenizer = loadTokenizer(dataset.tokenizerPath);
  const { tokens } = dataset.manifest.splits[split];
  // The longest sequence that fits leaves one token out when it starts at the beginning: the last target.
  const sequenceLength = tokens - 1;
  const sampler = dataset.sampler({ split, sequenceLength, seed: 0 });
  const sample = new Int32Array(sequenceLength + 1);
  sampler.read(0, sample);
  const documents = new Map<string, string>();
  for (const { name, sampleStart, sampleEnd } of sampler.provenance(0).documents) {
    documents.set(name, tokenizer.decode(sample.subarray(sampleStart, sampleEnd - 1)));
  }
  dataset.close();
  return documents;
}

/** The documents of both splits together. */
export function allDocuments(directory: string): Map<string, string> {
  const { splits } = openDataset(directory).manifest;
  const parts = [documentsOf(directory, 'train')];
  if (splits.validation.tokens > 0) parts.push(documentsOf(directory, 'validation'));
  return new Map(parts.flatMap((part) => [...part]));
}
