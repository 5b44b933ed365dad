export * from './activations/index.ts';
export * from './config.ts';
export { interleavedGate, type NamedGate, namedGates } from './gate.ts';
export * from './positions.ts';
export { gateWeightNorms, INTERLEAVED_GATE } from './weightNorms.ts';
