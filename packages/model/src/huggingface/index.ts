export { CONFIG_KEYS, keyRule } from './configKeys.ts';
export * from './export.ts';
export { FAMILIES, familyOf } from './families/index.ts';
export { withPrefix } from './families/tensors.ts';
export type { HuggingFaceTensor, TensorRun } from './fileTensor.ts';
export * from './import.ts';
export type { KeyRule } from './keyRules.ts';
export * from './layouts.ts';
export * from './tensors.ts';
