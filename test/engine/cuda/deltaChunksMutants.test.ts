/** Mistakes planted in the kernels of delta rules in chunks, each of which must be found. */

import { type CudaDevice, deltaRule, deltaRuleBackward, type RecurrenceOperands } from '@sluice/engine/cuda';
import test from 'ava';
import { activations, emulator } from '../support/cuda.ts';
import { findAll, instead, type Mutant, otherValues } from '../support/cudaMutants.ts';
import { randomValues } from '../support/differential.ts';

/** Both passes over two documents, of which one has three chunks, the last of few tokens; value channels fill no two blocks. */
function passes(on: CudaDevice, decays: number) {
  const layout = {
    ...{ batch: 1, sequence: 140, documents: Int32Array.of(0, 131), heads: 1 },
    ...{ keyDim: 16, valueDim: 72, decays },
  };
  const bf16 = (seed: number, width: number) => activations(on, seed, 140 * width, 'bf16').array;
  const float = (seed: number, width: number, of: (x: number) => number) =>
    on.upload(randomValues(seed, 140 * width).map(of), 'f32');
  const make = (seed: number): RecurrenceOperands => ({
    ...{ q: bf16(seed, 16), k: bf16(seed + 1, 16), v: bf16(seed + 2, 72) },
    ...{ beta: float(seed + 3, 1, (x) => (1 + x) / 8), g: float(seed + 4, decays, (x) => (x - 1) / 9) },
  });
  const [operands, gradients] = [make(1), make(11)];
  const [y, dy] = [bf16(21, 72), bf16(22, 72)];
  deltaRule(operands, y, layout);
  deltaRuleBackward({ ...operands, dy }, gradients, layout);
  return [y, ...Object.values(gradients)];
}

const KINDS = {
  'one decay': { decays: 1, others: /^KERNEL\((\w+128|\w*OfChannels\w*).*?^}\n/gms },
  'decays of channels': { decays: 16, others: /^KERNEL\((\w+128|deltaChunks64|deltaGradients64).*?^}\n/gms },
};

/** Kernels that are not launched are not compiled either. */
function mutant(
  file: 'deltaChunks' | 'deltaChunksBackward',
  what: string,
  from: string | RegExp,
  to: string,
  kind: keyof typeof KINDS = 'one decay',
): Mutant {
  const { decays, others } = KINDS[kind];
  return {
    ...{ what, file },
    plant: (text) => {
      const planted = instead(from, to)(text);
      return planted === text ? text : planted.replace(others, '');
    },
    error: otherValues((on) => passes(on, decays)),
  };
}

/** The barrier below a comment. */
const barrier = (comment: string) => new RegExp(`(// ${comment}.*\n) *__syncthreads\\(\\);`);

const FORWARD: readonly Mutant[] = [
  mutant('deltaChunks', 'no barrier before what M is made of is read', barrier('What M is made of'), '$1'),
  mutant('deltaChunks', 'no barrier before the rest is read', barrier('The rest is there'), '$1'),
  mutant('deltaChunks', 'the next chunk over the one that is read', barrier('Nobody reads any of it'), '$1'),
  mutant('deltaChunks', 'no wait for what M is made of', 'waitForCopies<1>();', ''),
  mutant(
    'deltaChunks',
    'no barrier before 16 rows of the inverse are solved',
    '__syncthreads();\n      if (',
    'if (',
  ),
  mutant('deltaChunks', 'a token of 16 left out of the inverse', 'm < i; m++', 'm < i - 1; m++'),
  mutant(
    'deltaChunks',
    'a token without what it wrote itself',
    'column <= row ? ofQueries',
    'column < row ? ofQueries',
  ),
  mutant('deltaChunks', 'β of the later token', 'shared.beta[column + x]', 'shared.beta[row]'),
  mutant(
    'deltaChunks',
    'decays until before the chunk’s end',
    'between(CHUNK - 1, row',
    'between(CHUNK - 2, row',
  ),
  mutant('deltaChunks', 'a row of the next document', 'chunks[2 * chunk + 1]', 'chunks[2 * chunk + 1] + 1'),
  mutant(
    'deltaChunks',
    'the first document’s chunks',
    'firstChunk = documents[2 * blockIdx.z + 1]',
    'firstChunk = 0',
  ),
  mutant('deltaChunks', 'decays of a chunk twice', /(decayState<D>\(.*;)/, '$1 $1'),
  mutant(
    'deltaChunks',
    'the state after a chunk for its outputs',
    'if (y) storeOutputs(',
    'for (int i = 0; i < D / 16; i++) earlier[i] = operandOf(state[2 * i], state[2 * i + 1]);\n if (y) storeOutputs(',
  ),
  mutant(
    'deltaChunks',
    'a chunk too few',
    'count = (end - begin + CHUNK - 1) / CHUNK',
    'count = (end - begin) / CHUNK',
  ),
  mutant(
    'deltaChunks',
    'decays beyond 1',
    ': between(middle, row, channel)',
    ': between(row, middle, channel)',
    'decays of channels',
  ),
  mutant(
    'deltaChunks',
    'the later token’s decay for all',
    'shared.factors[column]',
    'shared.factors[row]',
    'decays of channels',
  ),
  mutant(
    'deltaChunks',
    'no barrier before operands of a level are read',
    /(own, r\);\n) *__syncthreads\(\);\n( *const int pair)/,
    '$1$2',
    'decays of channels',
  ),
];

const BACKWARD: readonly Mutant[] = [
  mutant(
    'deltaChunksBackward',
    'no barrier before what Z is made of is read',
    barrier('What Z is made of'),
    '$1',
  ),
  mutant('deltaChunksBackward', 'no barrier before the rest is read', barrier('The rest is there'), '$1'),
  mutant(
    'deltaChunksBackward',
    'the next chunk over the one that is read',
    barrier('Nobody reads any of it'),
    '$1',
  ),
  mutant(
    'deltaChunksBackward',
    'the next strip over the one that is read',
    barrier('Nobody reads the last strip'),
    '$1',
  ),
  mutant('deltaChunksBackward', 'squares over the last strip', barrier('The strip may be overwritten'), '$1'),
  mutant('deltaChunksBackward', 'Z added, not taken away', 'z[i].r[part] ^= 0x80008000u;', ''),
  mutant('deltaChunksBackward', 'a key that owes to itself', 'column + e < row ?', 'column + e <= row ?'),
  mutant('deltaChunksBackward', 'the scale twice', '(decay * r.scale)', '(decay * r.scale * r.scale)'),
  mutant('deltaChunksBackward', 'one β too few', '.v[i] * over * over', '.v[i] * over'),
  mutant(
    'deltaChunksBackward',
    'decays without their own token',
    'row >= static_cast<int>(threadIdx.x)',
    'row > static_cast<int>(threadIdx.x)',
  ),
  mutant(
    'deltaChunksBackward',
    'nothing carried from chunk to chunk',
    'fmaf_rn(shared.decays.fromBegin(CHUNK - 1, channel), carried, sum)',
    'fmaf_rn(0.0f, carried, sum)',
  ),
  mutant(
    'deltaChunksBackward',
    'the first chunk as the last',
    'chunk >= 0; chunk--) {\n      FragmentA',
    'chunk > 0; chunk--) {\n      FragmentA',
  ),
  mutant(
    'deltaChunksBackward',
    'the decay of the token itself',
    'squares.factors[column + 1]',
    'squares.factors[column]',
    'decays of channels',
  ),
  mutant(
    'deltaChunksBackward',
    'a pair’s share left out',
    'i < first + 2 * half / STEP',
    'i < first + half / STEP',
    'decays of channels',
  ),
  mutant(
    'deltaChunksBackward',
    'dc over decays that are read',
    barrier('The decays are no longer read'),
    '$1',
    'decays of channels',
  ),
];

for (const mutants of [FORWARD, BACKWARD]) {
  test(`mistakes planted in ${mutants[0]!.file} are found, and none without`, async (t) => {
    for (const { error } of [mutants[0]!, mutants.at(-1)!]) t.is(error(emulator), 0);
    await findAll(t, mutants);
  });
}
