/** Every kernel at sizes that fill no tile and no warp, for comparisons of bits and with double precision. */

import type { AttentionLayout } from '../../ops/attentionLayout.ts';
import type { RecurrenceLayout } from '../../ops/recurrence.ts';
import type { CudaDevice } from '../device.ts';
import { TILES, type Tile } from '../productTiles.ts';
import { attentionCase, cachedAttentionCase } from './attention.ts';
import type { DeviceMemory, KernelCase } from './case.ts';
import { convolutionCase } from './convolution.ts';
import { combineCase, dispatchCase, planCase } from './dispatch.ts';
import { adamWCase, conversionCase, pairCase, sumTreeCase } from './flat.ts';
import { attentionHeadsCase, gateHeadsCase } from './heads.ts';
import { rmsNormCase, squaredNormsCase } from './norms.ts';
import { expertCase, type ProductName, productCase } from './products.ts';
import { recurrenceCase } from './recurrence.ts';
import { routerCase } from './router.ts';
import { stockCase, stockChecks } from './stock.ts';
import { crossEntropyCase, embeddingCase, residualCase, rotaryCase, swiGluCase } from './tokens.ts';

/** Makes a case in memory that is borrowed. */
export type MakeCase = (on: DeviceMemory) => KernelCase;

const LENGTH = 5000;
const SHAPE = { M: 136, N: 152, K: 200 };
const EXPERTS = { tokens: 45, experts: 4, topK: 2, N: 72, K: 88 };
const TILE_NAMES = Object.keys(TILES) as Tile[];
const STORAGES = ['bf16', 'f32'] as const;
const PASSES = [false, true];

const layout: AttentionLayout = {
  ...{ batch: 1, sequence: 100, heads: 4, keyValueHeads: 2, headDim: 64 },
  ...{ gate: 'elementwise', epsilon: 1e-6 },
};
const LAYOUTS: readonly AttentionLayout[] = [
  { ...layout, headDim: 32, sequence: 150 },
  { ...layout, gate: 'headwise', window: 70 },
  { ...layout, headDim: 128, gate: 'none', sequence: 70, batch: 2 },
  { ...layout, headDim: 256, heads: 2, keyValueHeads: 1, sequence: 66 },
];
/** Scores of these are capped, for which there are kernels of their own; of a head that fills no tile, too. */
const CAPPED: readonly AttentionLayout[] = [32, 64, 128, 256].map((headDim) => ({
  ...{ ...layout, headDim, heads: 2, keyValueHeads: 1, sequence: 66 },
  scoreCap: 3,
}));

const back = (isBackward: boolean) => (isBackward ? ' backward' : '');
const suffix = (storage: 'bf16' | 'f32') => (storage === 'f32' ? ', f32' : '');

/** How a tile is called. */
const tileText = (tile: Tile) =>
  `${tile.replace(/([a-z])([A-Z])/, '$1 $2').replace(/(Small|Large)/, (size) => size.toLowerCase())} tile`;

const products = TILE_NAMES.flatMap((tile) =>
  (['matmul', 'matmulPlain', 'matmulTransposed'] as ProductName[]).flatMap((name) =>
    (name === 'matmul' ? STORAGES : [undefined]).map((storage): [string, MakeCase] => [
      `${name}${storage === 'f32' ? ' to float' : ''}, ${tileText(tile)}`,
      (on) => productCase(on, name, SHAPE, { tile, ...(storage && { storage }) }),
    ]),
  ),
);

/** Those without tensor cores; over K in two blocks. */
const floatProducts = (['matmul', 'matmulPlain', 'matmulTransposed'] as ProductName[]).map(
  (name): [string, MakeCase] => [
    `${name}, f32`,
    (on) => productCase(on, name, { M: 70, N: 67, K: 523 }, { operands: 'f32' }),
  ],
);

const floatExperts = (['forward', 'back', 'gradient'] as const).map((kind): [string, MakeCase] => [
  `experts ${kind}, f32`,
  (on) => expertCase(on, kind, { ...EXPERTS, N: 70, K: 67, storage: 'f32' }),
]);

/** In single precision, of each width of tiles. */
const floatAttention = [LAYOUTS[1]!, LAYOUTS[2]!, { ...LAYOUTS[3]!, scoreCap: 3 }].map(
  (of): [string, MakeCase] => [
    `attention, head ${of.headDim}, gate ${of.gate}, f32`,
    (on) => attentionCase(on, of, 'both', { storage: 'f32' }),
  ],
);

const experts = TILE_NAMES.flatMap((tile) =>
  (['forward', 'back', 'gradient'] as const).map((kind): [string, MakeCase] => [
    `experts ${kind}, ${tileText(tile)}`,
    (on) => expertCase(on, kind, EXPERTS, tile),
  ]),
);

const headsOf = (of: AttentionLayout, storage: 'bf16' | 'f32') =>
  PASSES.map((isBackward): [string, MakeCase] => [
    `attention heads${back(isBackward)}, head ${of.headDim}, gate ${of.gate}${suffix(storage)}`,
    (on) => attentionHeadsCase(on, { ...of, sequence: 20, window: undefined }, isBackward, storage),
  ]);

/** By the kernels for all, and by a Hopper's own where it has some. */
const attentionBy = (name: string, of: AttentionLayout): [string, MakeCase][] =>
  (of.headDim > 32 ? [false, true] : [false]).map((isHopper) => [
    `${isHopper ? 'Hopper ' : ''}${name}`,
    (on) => attentionCase(on, of, 'both', { isHopper }),
  ]);

const attention = LAYOUTS.flatMap((of): [string, MakeCase][] => [
  ...attentionBy(`attention, head ${of.headDim}, gate ${of.gate}`, of),
  ...headsOf(of, 'bf16'),
]);

const otherAttention = [...CAPPED, { ...layout, headDim: 40 }].flatMap((of) =>
  attentionBy(`attention, head ${of.headDim}${of.scoreCap ? ', capped' : ''}`, of),
);

const ofStorage = STORAGES.flatMap((storage): [string, MakeCase][] => [
  [`RMS norm, ${storage}`, (on) => rmsNormCase(on, { rows: 71, width: 264, storage })],
  [`residual sum, ${storage}`, (on) => residualCase(on, LENGTH, storage)],
  [`rotary embedding, ${storage}`, (on) => rotaryCase(on, { tokens: 30, heads: 3, headDim: 10, storage })],
  ...PASSES.flatMap((isBackward): [string, MakeCase][] => [
    [
      `SwiGLU${back(isBackward)}, ${storage}`,
      (on) => swiGluCase(on, { rows: 19, units: 44, storage }, isBackward),
    ],
    [
      `embedding${back(isBackward)}, ${storage}`,
      (on) => embeddingCase(on, { tokens: 90, vocabulary: 37, width: 44, storage }, isBackward),
    ],
  ]),
]);

const gatesOf = (storage: 'bf16' | 'f32') =>
  PASSES.flatMap((isBackward) =>
    [false, true].map((isHeadwise): [string, MakeCase] => {
      const gate = {
        heads: 3,
        channels: 40,
        activation: isHeadwise ? 'silu' : 'sigmoid',
        isShared: false,
      } as const;
      return [
        `${isHeadwise ? 'headwise' : 'elementwise'} gate${back(isBackward)}${suffix(storage)}`,
        (on) => gateHeadsCase(on, { rows: 37, gate, isHeadwise, storage }, isBackward),
      ];
    }),
  );

const dispatch = { tokens: 33, experts: 4, topK: 2, width: 72 };

/** Of sizes that no tile takes, so that it goes token after token in either precision. */
const RECURRENCE = { batch: 2, sequence: 45, heads: 2, keyDim: 20, valueDim: 36 };
/** In chunks, by either tile of keys. */
const IN_CHUNKS = [
  { batch: 2, sequence: 70, heads: 2, keyDim: 24, valueDim: 40 },
  { batch: 1, sequence: 130, heads: 1, keyDim: 72, valueDim: 72 },
];

const deltaRules = (name: string, of: Omit<RecurrenceLayout, 'decays'>, storage: 'bf16' | 'f32') =>
  [1, of.keyDim].flatMap((decays) =>
    PASSES.map((isBackward): [string, MakeCase] => [
      `${name}${back(isBackward)}, ${decays === 1 ? 'one decay' : 'decays of channels'}${suffix(storage)}`,
      (on) => recurrenceCase(on, { ...of, decays }, isBackward, storage),
    ]),
  );

const chunks = IN_CHUNKS.flatMap((of) => deltaRules(`delta rule in chunks, head ${of.keyDim}`, of, 'bf16'));

/** What is there for both kinds of activations. */
const ofActivations = (storage: 'bf16' | 'f32'): [string, MakeCase][] => [
  ...PASSES.map((isBackward): [string, MakeCase] => [
    `short convolution${back(isBackward)}${suffix(storage)}`,
    (on) => convolutionCase(on, { tokens: 90, channels: 40, taps: 4, document: 35, storage }, isBackward),
  ]),
  ...deltaRules('delta rule', RECURRENCE, storage),
  [
    `cached attention${suffix(storage)}`,
    (on) => cachedAttentionCase(on, { ...layout, sequence: 3 }, 530, storage),
  ],
  [`dispatch${suffix(storage)}`, (on) => dispatchCase(on, { ...dispatch, storage })],
  ...PASSES.map((isBackward): [string, MakeCase] => [
    `combine${back(isBackward)}${suffix(storage)}`,
    (on) => combineCase(on, { ...dispatch, storage }, isBackward),
  ]),
  ...[0, 2].map((cap): [string, MakeCase] => [
    `cross-entropy${cap > 0 ? ', capped' : ''}${suffix(storage)}`,
    (on) => crossEntropyCase(on, { tokens: 19, channels: 24, vocabulary: 304, cap, storage }),
  ]),
];

export const CHECKS: Readonly<Record<string, MakeCase>> = Object.fromEntries<MakeCase>([
  ...[...products, ...experts, ...attention, ...otherAttention, ...ofStorage, ...gatesOf('bf16')],
  ...[
    ...floatProducts,
    ...floatExperts,
    ...floatAttention,
    ...headsOf(LAYOUTS[1]!, 'f32'),
    ...gatesOf('f32'),
  ],
  ...STORAGES.flatMap(ofActivations),
  ...chunks,
  ...PASSES.flatMap((isBackward) =>
    (['softmax', 'sigmoid'] as const).map((router): [string, MakeCase] => [
      `router${back(isBackward)}, ${router}`,
      (on) => routerCase(on, { tokens: 70, experts: 40, topK: 6, router }, isBackward),
    ]),
  ),
  ['plan of rows', (on) => planCase(on, { tokens: 600, experts: 9, topK: 2 })],
  ['AdamW', (on) => adamWCase(on, LENGTH)],
  ['squared norms', (on) => squaredNormsCase(on, LENGTH)],
  ['sum of 5', (on) => sumTreeCase(on, 5, LENGTH)],
  ['scale', (on) => pairCase(on, 'scale', LENGTH)],
  ['add scaled', (on) => pairCase(on, 'addScaled', LENGTH)],
  ['add rounded', (on) => pairCase(on, 'addRounded', LENGTH)],
  ['narrow', (on) => conversionCase(on, 'bf16', LENGTH)],
  ['widen', (on) => conversionCase(on, 'f32', LENGTH)],
  ...Object.entries(stockChecks()).map(([name, check]): [string, MakeCase] => [name, () => stockCase(check)]),
]);

/** The cases that a device runs: those of Hopper's own instructions need a Hopper, or an emulator that is one. */
export function checksFor({ isHopper }: Pick<CudaDevice, 'isHopper'>): string[] {
  return Object.keys(CHECKS).filter((name) => isHopper || !name.includes('Hopper'));
}
