export * from './config.ts';
export { Dataset, openDataset } from './dataset.ts';
export { findPrepared } from './findPrepared.ts';
export {
  type DatasetManifest,
  manifestFiles,
  type SplitManifest,
  type SplitName,
  TOKENIZER_FILE,
} from './manifest.ts';
export { firstDifference } from './mixture.ts';
export { MixtureSampler, mixturePhases } from './mixtureSampler.ts';
export * from './needles.ts';
export { permute } from './order.ts';
export { type PrepareSummary, prepareData } from './prepare.ts';
export { listPrepared, type PreparedCorpus, type PreparedEntry } from './preparedCorpus.ts';
export type { PrepareOptions, PrepareProgress } from './prepareOptions.ts';
export { DataRecipe, loadRecipe } from './recipe.ts';
export {
  joinHashes,
  openRunData,
  type RunData,
  recipesOf,
  splitHashes,
  type ValidationPart,
  validationShares,
} from './runData.ts';
export type { DocumentMarks, Provenance, SampleDocument, Sampler, SamplerOptions } from './sampler.ts';
export { readSourceReport, type SourceReport } from './sourceReport.ts';
export type { ShardRange } from './splitReader.ts';
export { recipeHash } from './stamp.ts';
export type { TextState } from './textState.ts';
export type { BpeTokenizerJson } from './tokenizer/json.ts';
export { libraryVersion, loadLibrary as loadTokenizerLibrary } from './tokenizer/library.ts';
export {
  type LoadTokenizerOptions,
  loadTokenizer,
  tokenId,
  tokenizerBeginningWith,
  tokensAround,
} from './tokenizer/load.ts';
export { type CorpusText, decodeContinuation, type Tokenizer, unusedToken } from './tokenizer/tokenizer.ts';
export { type TrainTokenizerOptions, trainTokenizer } from './tokenizer/train.ts';
