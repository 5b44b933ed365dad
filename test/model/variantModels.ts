/** Models of each variant, to be made tiny by `tinyModel`. */

import { GATE_POSITIONS } from '@sluice/model';

/** One of each kind, and some together. */
export const VARIANTS: Readonly<Record<string, object>> = {
  'no gate': { gates: [] },
  'the default gate': {},
  'a headwise gate': { gate: { granularity: 'headwise' } },
  'a gate on values': { gate: { position: 'value' } },
  'a headwise gate on values': { gate: { position: 'value', granularity: 'headwise' } },
  'a head-shared gate on values': { gate: { position: 'value', sharing: 'head-shared' } },
  'a gate on keys': { gate: { position: 'key' } },
  'a gate on queries': { gate: { position: 'query' } },
  'a gate on the output': { gate: { position: 'output' } },
  'a head-shared gate': { gate: { sharing: 'head-shared' } },
  'an NS-sigmoid gate': { gate: { activation: 'ns-sigmoid' } },
  'a 2·sigmoid gate': { gate: { activation: 'double-sigmoid' } },
  'a SiLU gate': { gate: { activation: 'silu' } },
  'an additive SiLU gate': { gate: { form: 'additive', activation: 'silu' } },
  'an additive identity gate': { gate: { form: 'additive', activation: 'identity' } },
  'an input-independent gate that heads share': {
    gate: { input: 'input-independent', sharing: 'head-shared', activation: 'silu', initialLogit: 1 },
  },
  'an input-independent gate': { gate: { input: 'input-independent' } },
  'a gate with a bias': { gate: { initialWeights: 'zeros', initialLogit: 2 } },
  'gates everywhere': {
    gates: [
      { granularity: 'headwise' },
      ...GATE_POSITIONS.map((position) => ({ position })),
      { position: 'value', form: 'additive', activation: 'silu' },
    ],
  },
  'a norm after attention': { gates: [], controls: [{ kind: 'sdpa-norm' }] },
  'a norm after attention, then the gate': { controls: [{ kind: 'sdpa-norm' }] },
  'SiLU after attention': { gates: [], controls: [{ kind: 'sdpa-silu' }] },
  'switched values': { gates: [], controls: [{ kind: 'switch-head', count: 3, topK: 2 }] },
  'switched keys and values': {
    gates: [],
    controls: [{ kind: 'switch-head', projections: 'key-value', count: 2, topK: 2 }],
  },
  'a sandwich norm': { controls: [{ kind: 'sandwich-norm' }] },
  'a depth-scaled sandwich norm': {
    numLayers: 2,
    controls: [{ kind: 'sandwich-norm', initialGain: 'depth-scaled' }],
  },
  'capped scores': { controls: [{ kind: 'softcap', attention: 1.5 }] },
  'capped scores and logits, a learned sink': {
    gates: [],
    controls: [{ kind: 'attention-sink' }, { kind: 'softcap', attention: 2, logits: 0.5 }],
  },
  'clipped outputs': { controls: [{ kind: 'clip-outputs', limit: 0.2 }] },
  'a learned sink': { controls: [{ kind: 'attention-sink' }] },
  'softmax off by one': { gates: [], controls: [{ kind: 'attention-sink', score: 'zero' }] },
  'a sigmoid router': {
    intermediateSize: undefined,
    experts: { count: 4, topK: 2, intermediateSize: 6, router: 'sigmoid', scalingFactor: 2.5 },
  },
  'experts chosen with a bias': {
    intermediateSize: undefined,
    experts: { count: 4, topK: 2, intermediateSize: 6, normalizeTopK: false, balanceBias: {} },
  },
  'norms around zero, a rotary embedding of half a head': {
    zeroCentredNorms: 'layers',
    rotaryDim: 4,
    controls: [{ kind: 'sandwich-norm' }, { kind: 'sdpa-norm' }],
  },
  'a softplus gate, a sandwich norm of its own epsilon': {
    gate: { granularity: 'headwise', activation: 'softplus' },
    controls: [{ kind: 'sandwich-norm', epsilon: 0.01 }],
  },
  'weightless norms, scaled queries, embeddings and logits': {
    ...{ qkNorm: 'weightless', queryScale: 3, embeddingScaling: 'norm', logitScale: 0.4 },
    controls: [{ kind: 'softcap', logits: 2 }],
  },
  'embeddings times a root, limited hidden units': { embeddingScaling: 'sqrt', swigluLimit: 0.2 },
  'limited experts, and a shared one with its own gate and limit': {
    intermediateSize: undefined,
    ...{ swigluLimit: 0.1, sharedSwigluLimit: 0.2 },
    experts: { count: 4, topK: 2, intermediateSize: 6, sharedIntermediateSize: 5, sharedGate: true },
  },
  'norms behind blocks, and of all heads together': {
    ...{ normPlacement: 'after', qkNorm: 'all-heads', zeroCentredNorms: 'layers' },
    controls: [{ kind: 'clip-outputs', limit: 2 }],
  },
  'layers of different kinds': {
    ...{ numLayers: 3, zeroCentredNorms: 'all' },
    experts: { count: 4, topK: 2, intermediateSize: 6 },
    layers: {
      kinds: {
        dense: { feedForward: 'dense', numAttentionHeads: 2, swigluLimit: 0.3 },
        narrow: { ropeTheta: 500, rotaryDim: 6, numAttentionHeads: 6 },
        unplaced: { positions: 'none' },
      },
      pattern: ['narrow', 'unplaced'],
      first: ['dense'],
    },
  },
  'a window': { window: 3 },
  'a window in some layers': {
    numLayers: 3,
    layers: { kinds: { near: { window: 4 }, far: { positions: 'none' } }, pattern: ['near', 'near', 'far'] },
  },
  'Gated DeltaNet': {
    mixer: { kind: 'gated-delta-net', keyHeads: 2, valueHeads: 4, keyDim: 6, valueDim: 5 },
  },
  'Gated DeltaNet among attention, with a sandwich norm': {
    numLayers: 3,
    zeroCentredNorms: 'all',
    layers: {
      kinds: {
        linear: {
          mixer: {
            ...{ kind: 'gated-delta-net', keyHeads: 1, valueHeads: 3, keyDim: 8, valueDim: 8 },
            ...{ allowNegativeEigenvalues: true, normEps: 1e-5, taps: 3, initialDecay: 'fast' },
          },
        },
        full: {},
      },
      pattern: ['linear', 'linear', 'full'],
    },
    controls: [{ kind: 'sdpa-norm' }, { kind: 'sandwich-norm' }],
  },
  'short convolutions among attention': {
    numLayers: 2,
    layers: {
      kinds: { conv: { mixer: { kind: 'short-convolution', taps: 4 } }, near: { window: 3 } },
      pattern: ['conv', 'near'],
    },
  },
  'much together, with experts': {
    intermediateSize: undefined,
    experts: { count: 4, topK: 2, intermediateSize: 6 },
    gates: [{ granularity: 'headwise' }, { position: 'value', activation: 'silu' }],
    controls: [
      { kind: 'sdpa-norm' },
      { kind: 'switch-head', count: 2, topK: 1 },
      { kind: 'attention-sink' },
      { kind: 'sandwich-norm' },
      { kind: 'clip-outputs', limit: 3 },
    ],
  },
};

/** The same with widths that tensor cores take. */
function aligned(value: unknown, key = ''): unknown {
  if (typeof value === 'number') return /(Size|Dim)$/.test(key) ? 8 * Math.ceil(value / 8) : value;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((each) => aligned(each));
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, aligned(each, name)]));
}

/** All of these and some more, with widths that tensor cores take. */
export const DEVICE_VARIANTS: Readonly<Record<string, object>> = Object.fromEntries(
  Object.entries({
    ...VARIANTS,
    'a softplus gate on the output': { gates: [{ position: 'output', activation: 'softplus' }] },
    'keys and values of a latent': {
      ...{ numKeyValueHeads: 4, headDim: 24, qkNorm: false, gates: [], positions: 'none' },
      keyValueLatent: { rank: 8, sharedKeyDim: 8, valueDim: 16 },
    },
    'Kimi delta attention': { mixer: { kind: 'kimi-delta-attention', heads: 4, keyDim: 16, valueDim: 8 } },
  }).map(([name, keys]) => [name, aligned({ intermediateSize: 16, ...keys }) as object]),
);
