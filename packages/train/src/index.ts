export * from './config.ts';
export * from './protocol.ts';
