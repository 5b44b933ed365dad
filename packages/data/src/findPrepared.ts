import { listPrepared, type PreparedCorpus } from './preparedCorpus.ts';

/**
 * The prepared corpus of a hash, whatever its folder is called.
 * @param outputRoot where prepared corpora live
 * @param manifestHash the hash that names the corpus
 */
export function findPrepared(outputRoot: string, manifestHash: string): PreparedCorpus | undefined {
  return listPrepared(outputRoot).find(
    (entry): entry is PreparedCorpus => 'manifestHash' in entry && entry.manifestHash === manifestHash,
  );
}
