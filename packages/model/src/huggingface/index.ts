export { CONFIG_KEYS, type KeyRule, keyRule } from './configKeys.ts';
export * from './export.ts';
export * from './import.ts';
export * from './layouts.ts';
export * from './tensors.ts';
