/** Kernels at the sizes of the paper's models, for their rates: those of 1.7B (28 layers), and the experts of 15B-A2B. */

import type { AttentionLayout } from '../../ops/attentionLayout.ts';
import type { AttentionOptions } from '../attention.ts';
import { attentionCase, cachedAttentionCase } from './attention.ts';
import type { MakeCase } from './checks.ts';
import { convolutionCase } from './convolution.ts';
import { combineCase, dispatchCase, planCase } from './dispatch.ts';
import { adamWCase, conversionCase, sumTreeCase } from './flat.ts';
import { attentionHeadsCase, gateHeadsCase } from './heads.ts';
import { rmsNormCase, squaredNormsCase } from './norms.ts';
import { expertCase, type ProductName, productCase } from './products.ts';
import { recurrenceCase } from './recurrence.ts';
import { routerCase } from './router.ts';
import { RATED_OPERATIONS, stockRateCase } from './stock.ts';
import { crossEntropyCase, embeddingCase, residualCase, swiGluCase } from './tokens.ts';

/** How large the cases are: as in the models, or so small that the emulator runs them. */
export const SCALES = ['full', 'tiny'] as const;
export type Scale = (typeof SCALES)[number];

interface Sizes {
  /** Of a sequence, for products and attention. */
  readonly tokens: number;
  /** Tokens where memory is the limit: their activations are larger than a card's caches. */
  readonly many: number;
  readonly hidden: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly units: number;
  readonly vocabulary: number;
  /** Of a flat buffer. */
  readonly parameters: number;
  readonly experts: { readonly experts: number; readonly topK: number; readonly units: number };
  /** Edge of the largest product. */
  readonly square: number;
}

const SIZES: Readonly<Record<Scale, Sizes>> = {
  full: {
    ...{ tokens: 4096, many: 16384, hidden: 2048, heads: 16, keyValueHeads: 8, headDim: 128, units: 6144 },
    ...{
      vocabulary: 152064,
      parameters: 2 ** 26,
      experts: { experts: 128, topK: 8, units: 768 },
      square: 8192,
    },
  },
  tiny: {
    ...{ tokens: 64, many: 64, hidden: 64, heads: 2, keyValueHeads: 1, headDim: 32, units: 96 },
    ...{ vocabulary: 256, parameters: 2 ** 13, experts: { experts: 4, topK: 2, units: 32 }, square: 128 },
  },
};

/** The same work as another library has it. */
export type Yardstick =
  | {
      readonly kind: 'product';
      readonly name: ProductName;
      readonly shape: readonly [M: number, N: number, K: number];
      readonly isFloat: boolean;
    }
  | {
      readonly kind: 'attention';
      readonly isBackward: boolean;
      readonly shape: Pick<AttentionLayout, 'batch' | 'sequence' | 'heads' | 'keyValueHeads' | 'headDim'>;
    };

export interface RateCase {
  readonly make: MakeCase;
  readonly yardstick?: Yardstick;
}

/** M × N over K. */
function product(
  what: string,
  name: ProductName,
  [M, N, K]: readonly [number, number, number],
  storage?: 'f32',
): [string, RateCase] {
  const isFloat = storage === 'f32' || name === 'matmulTransposed';
  return [
    `${what}, ${M} × ${N} × ${K}`,
    {
      make: (on) => productCase(on, name, { M, N, K }, storage && { storage }),
      yardstick: { kind: 'product', name, shape: [M, N, K], isFloat },
    },
  ];
}

/** A linear layer: its result, and the gradients of its input and of its weights. */
function linear(what: string, tokens: number, outputs: number, inputs: number): [string, RateCase][] {
  return [
    product(`${what} x·Wᵀ`, 'matmul', [tokens, outputs, inputs]),
    product(`${what} dy·W`, 'matmulPlain', [tokens, inputs, outputs]),
    product(`${what} dyᵀ·x`, 'matmulTransposed', [outputs, inputs, tokens]),
  ];
}

const PASSES = ['forward', 'backward'] as const;
const suffix = (isBackward: boolean) => (isBackward ? ' backward' : '');

/** Both passes, each beside the same work of another library; by `mma.sync` alone where a Hopper's own kernels are not to be taken. */
function attention(
  of: Sizes,
  headDim: number,
  gate: AttentionLayout['gate'],
  options: AttentionOptions = {},
): [string, RateCase][] {
  const { tokens, heads, keyValueHeads } = of;
  const layout = { batch: 1, sequence: tokens, heads, keyValueHeads, headDim, gate, epsilon: 1e-6 };
  const by = options.isHopper === false ? ' by mma.sync' : '';
  return PASSES.map((pass) => [
    `attention${suffix(pass === 'backward')}${by}, ${tokens} tokens, head ${headDim}, gate ${gate}`,
    {
      make: (on) => attentionCase(on, layout, pass, options),
      ...(by === '' && {
        yardstick: {
          kind: 'attention',
          isBackward: pass === 'backward',
          shape: { batch: 1, sequence: tokens, heads, keyValueHeads, headDim },
        },
      }),
    },
  ]);
}

/** Generation of a token, and delta rules of as many channels as attention has. */
function others({ tokens, heads, keyValueHeads, headDim }: Sizes): [string, RateCase][] {
  const layout = {
    batch: 1,
    sequence: 1,
    heads,
    keyValueHeads,
    headDim,
    gate: 'none',
    epsilon: 1e-6,
  } as const;
  const recurrence = {
    batch: 1,
    sequence: tokens,
    heads: heads / 2,
    keyDim: headDim,
    valueDim: headDim,
  };
  return [
    [
      `cached attention, ${tokens} tokens, head ${headDim}`,
      { make: (on) => cachedAttentionCase(on, layout, tokens) },
    ],
    ...[1, headDim].flatMap((decays) =>
      [false, true].map((isBackward): [string, RateCase] => [
        `delta rule${decays > 1 ? ' with decays of channels' : ''}${suffix(isBackward)}, ${tokens} tokens, ${heads / 2} heads of ${headDim}`,
        { make: (on) => recurrenceCase(on, { ...recurrence, decays }, isBackward) },
      ]),
    ),
  ];
}

/** Without tensor cores, of which the share is that of others. */
function single({ tokens, hidden, heads, keyValueHeads, headDim, units }: Sizes): [string, RateCase][] {
  const shape = { M: tokens, N: 2 * units, K: hidden };
  const layout: AttentionLayout = {
    ...{ batch: 1, sequence: tokens, heads, keyValueHeads, headDim },
    ...{ gate: 'none', epsilon: 1e-6 },
  };
  return [
    [
      `single precision x·Wᵀ, ${shape.M} × ${shape.N} × ${shape.K}`,
      { make: (on) => productCase(on, 'matmul', shape, { operands: 'f32' }) },
    ],
    ...PASSES.map((pass): [string, RateCase] => [
      `single precision attention${suffix(pass === 'backward')}, ${tokens} tokens, head ${headDim}`,
      { make: (on) => attentionCase(on, layout, pass, { storage: 'f32' }) },
    ]),
  ];
}

function memoryBound(of: Sizes): [string, MakeCase][] {
  const { many, hidden, heads, keyValueHeads, headDim, units, vocabulary, parameters } = of;
  const layout: AttentionLayout = {
    ...{ batch: 1, sequence: many, heads, keyValueHeads, headDim },
    ...{ gate: 'elementwise', epsilon: 1e-6 },
  };
  const norm = { rows: many, width: hidden, storage: 'bf16' } as const;
  const gate = { heads, channels: headDim, activation: 'sigmoid', isShared: false } as const;
  const table = { tokens: many, vocabulary, width: hidden, storage: 'bf16' } as const;
  const size = `${many} × ${hidden}`;
  return [
    ...PASSES.map((pass): [string, MakeCase] => [
      `RMS norm${suffix(pass === 'backward')}, ${size}`,
      (on) => rmsNormCase(on, norm, pass),
    ]),
    [`residual sum, ${size}`, (on) => residualCase(on, many * hidden, 'bf16')],
    ...[false, true].flatMap((isBackward): [string, MakeCase][] => [
      [
        `attention heads${suffix(isBackward)}, ${many} tokens`,
        (on) => attentionHeadsCase(on, layout, isBackward),
      ],
      [
        `gate of heads${suffix(isBackward)}, ${many} × ${heads * headDim}`,
        (on) => gateHeadsCase(on, { rows: many, gate, isHeadwise: false }, isBackward),
      ],
      [
        `SwiGLU${suffix(isBackward)}, ${many} × ${units}`,
        (on) => swiGluCase(on, { rows: many, units, storage: 'bf16' }, isBackward),
      ],
      [
        `short convolution${suffix(isBackward)}, ${size}`,
        (on) => convolutionCase(on, { tokens: many, channels: hidden, taps: 4, document: many }, isBackward),
      ],
      [`embedding${suffix(isBackward)}, ${size}`, (on) => embeddingCase(on, table, isBackward)],
    ]),
    [`AdamW, ${parameters} parameters`, (on) => adamWCase(on, parameters)],
    [`squared norms, ${parameters}`, (on) => squaredNormsCase(on, parameters)],
    [`sum of 2 × ${parameters}`, (on) => sumTreeCase(on, 2, parameters)],
    [`to bf16, ${parameters}`, (on) => conversionCase(on, 'bf16', parameters)],
    ...RATED_OPERATIONS.map((name): [string, MakeCase] => [
      `${name} of TensorFlow.js, ${size}`,
      (on) => stockRateCase(on, name, [many, hidden]),
    ]),
  ];
}

function experts({ tokens, hidden, experts: { experts: count, topK, units } }: Sizes): [string, RateCase][] {
  const sizes = { tokens, experts: count, topK };
  const rows = tokens * topK;
  const products = [
    { kind: 'forward', N: 2 * units, K: hidden },
    { kind: 'forward', N: hidden, K: units },
    { kind: 'back', N: units, K: hidden },
    { kind: 'back', N: hidden, K: 2 * units },
    { kind: 'gradient', N: 2 * units, K: hidden },
    { kind: 'gradient', N: hidden, K: units },
  ] as const;
  const dispatch = { ...sizes, width: hidden };
  return [
    ...products.map(({ kind, N, K }): [string, RateCase] => [
      `${count} experts ${{ forward: 'x·Wᵀ', back: 'dy·W', gradient: 'dyᵀ·x' }[kind]}, ${rows} rows, ${N} × ${K}`,
      { make: (on) => expertCase(on, kind, { ...sizes, N, K }) },
    ]),
    ...[false, true].map((isBackward): [string, RateCase] => [
      `router${suffix(isBackward)}, ${tokens} × ${count}`,
      { make: (on) => routerCase(on, sizes, isBackward) },
    ]),
    [`plan of ${rows} rows`, { make: (on) => planCase(on, sizes) }],
    [`dispatch, ${tokens} → ${rows} rows of ${hidden}`, { make: (on) => dispatchCase(on, dispatch) }],
    ...[false, true].map((isBackward): [string, RateCase] => [
      `combine${suffix(isBackward)}, ${rows} rows of ${hidden}`,
      { make: (on) => combineCase(on, dispatch, isBackward) },
    ]),
  ];
}

/** What is measured, by names that say the sizes. `cuda` must be the running backend. */
export function rateCases(scale: Scale): Readonly<Record<string, RateCase>> {
  const of = SIZES[scale];
  const { tokens, hidden, heads, keyValueHeads, headDim, units, vocabulary, square } = of;
  const projection = (heads + 2 * keyValueHeads) * headDim;
  return Object.fromEntries([
    product('product', 'matmul', [square, square, square]),
    [
      `product by mma.sync, ${square} × ${square} × ${square}`,
      {
        make: (on) => productCase(on, 'matmul', { M: square, N: square, K: square }, { tile: 'Large' }),
      } satisfies RateCase,
    ],
    ...linear('heads', tokens, projection, hidden),
    ...linear('output', tokens, hidden, heads * headDim),
    ...linear('gate and up', tokens, 2 * units, hidden),
    ...linear('down', tokens, hidden, units),
    product('logits', 'matmul', [Math.min(tokens, 1024), vocabulary, hidden], 'f32'),
    [
      `cross-entropy with gradients, ${tokens} × ${hidden} × ${vocabulary}`,
      { make: (on) => crossEntropyCase(on, { tokens, channels: hidden, vocabulary }) } satisfies RateCase,
    ],
    ...attention(of, headDim, 'none'),
    ...attention(of, headDim, 'none', { isHopper: false }),
    ...attention(of, 64, 'none'),
    ...attention(of, 256, 'none'),
    ...attention(of, headDim, 'elementwise'),
    ...single(of),
    ...others(of),
    ...experts(of),
    ...memoryBound(of).map(([name, make]): [string, RateCase] => [name, { make }]),
  ]);
}
