export * from './activations/index.ts';
export * from './config.ts';
export { INTERLEAVED_GATE, interleavedGate, type NamedGate, namedGates } from './gate.ts';
export * from './positions.ts';
export { gateWeightNorms } from './weightNorms.ts';
