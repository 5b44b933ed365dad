export * from './export.ts';
export * from './import.ts';
export * from './layouts.ts';
export * from './tensors.ts';
