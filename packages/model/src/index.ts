export * from './config.ts';
export * from './count.ts';
export * from './decoder.ts';
export * from './exchange.ts';
export * from './keyValueCache.ts';
export * from './parameters.ts';
export * from './rope.ts';
