export { HuggingFaceDirectory, isHuggingFaceDirectory } from './directory.ts';
export * from './export.ts';
export * from './import.ts';
export { TOKENIZER_FOLDER, tokenizerFolder } from './tokenizerFiles.ts';
export { readJson } from './weightFiles.ts';
export * from './weightSource.ts';
