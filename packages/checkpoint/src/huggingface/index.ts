export { HuggingFaceDirectory, isHuggingFaceDirectory } from './directory.ts';
export * from './export.ts';
export * from './import.ts';
export { refuseLfsPointerAt } from './lfsPointer.ts';
export {
  copyTokenizer,
  type LocatedTokenizer,
  locateTokenizer,
  type SavedTokenizer,
  TokenizerRecord,
  tokenizerOfHuggingFace,
  verifyTokenizer,
} from './tokenizerFiles.ts';
export { readJson } from './weightFiles.ts';
export * from './weightSource.ts';
