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
  'one decay': {
    error: otherValues((on) => passes(on, 1)),
    others: /^KERNEL\((\w+128|\w*OfChannels\w*).*?^}\n/gms,
  },
  'decays of channels': {
    error: otherValues((on) => passes(on, 16)),
    others: /^KERNEL\((\w+128|deltaChunks64|deltaGradients64).*?^}\n/gms,
  },
};

type Planted = readonly [what: string, from: string | RegExp, to: string, kind?: keyof typeof KINDS];

/** Kernels that are not launched are not compiled either. */
function mutant(file: string, [what, from, to, kind = 'one decay']: Planted): Mutant {
  const { error, others } = KINDS[kind];
  return {
    ...{ what, file },
    plant: (text) => {
      const planted = instead(from, to)(text);
      return planted === text ? text : planted.replace(others, '');
    },
    error,
  };
}

/** The barrier below a comment. */
const barrier = (comment: string) => new RegExp(`(// ${comment}.*\n) *__syncthreads\\(\\);`);

const PLANTED: Readonly<Record<string, readonly Planted[]>> = {
  deltaChunks: [
    ['no barrier before 16 rows of the inverse are solved', '__syncthreads();\n      if (', 'if ('],
    ['a token of 16 left out of the inverse', 'm < i; m++', 'm < i - 1; m++'],
    ['a token without what it wrote itself', 'column <= row ? ofQueries', 'column < row ? ofQueries'],
    ['β of the later token', 'shared.beta[column + x]', 'shared.beta[row]'],
    ['decays until before the chunk’s end', 'between(CHUNK - 1, row', 'between(CHUNK - 2, row'],
    ['a row of the next document', 'chunks[2 * chunk + 1]', 'chunks[2 * chunk + 1] + 1'],
    [
      'decays beyond 1',
      ': between(middle, row, channel)',
      ': between(row, middle, channel)',
      'decays of channels',
    ],
    [
      'the later token’s decay for all',
      'shared.factors[column]',
      'shared.factors[row]',
      'decays of channels',
    ],
    [
      'no barrier before operands of a level are read',
      /(own, r\);\n) *__syncthreads\(\);\n( *const int pair)/,
      '$1$2',
      'decays of channels',
    ],
  ],
  deltaStates: [
    ['no barrier before what M is made of is read', barrier('What M is made of'), '$1'],
    ['no barrier before the rest is read', barrier('The rest is there'), '$1'],
    ['the next chunk over the one that is read', barrier('Nobody reads any of it'), '$1'],
    ['no wait for what M is made of', 'waitForCopies<1>();', ''],
    ['U over values that others read', '    __syncwarp();\n    UNROLL', '    UNROLL'],
    ['the first document’s chunks', 'begin, end, own[1],', 'begin, end, 0,'],
    ['a chunk too few', '(end - begin + CHUNK - 1) / CHUNK', '(end - begin) / CHUNK'],
    ['decays of a chunk twice', /(decayState<D>\(.*;)/, '$1 $1'],
    [
      'the state after a chunk for its outputs',
      'if (y) storeOutputs(',
      'for (int i = 0; i < D / 16; i++) earlier[i] = operandOf(state[2 * i], state[2 * i + 1]);\n if (y) storeOutputs(',
    ],
    ['no barrier before what Z is made of is read', barrier('What Z is made of'), '$1'],
    [
      'no barrier before the rest of the way back is read',
      /(reads what Z was made of.*\n) *__syncthreads\(\);/,
      '$1',
    ],
    ['the next chunk of the way back over the one that is read', barrier('Nobody reads this chunk'), '$1'],
    ['Z added, not taken away', 'z[i].r[part] ^= 0x80008000u;', ''],
    ['the way back without the first chunk', 'chunk >= 0; chunk--', 'chunk > 0; chunk--'],
  ],
  deltaGradients: [
    ['the next strip over the one that is read', barrier('Nobody reads the last strip'), '$1'],
    ['squares over the last strip', barrier('The strip may be overwritten'), '$1'],
    ['a key that owes to itself', 'column + e < row ?', 'column + e <= row ?'],
    ['the scale twice', '(decay * r.scale)', '(decay * r.scale * r.scale)'],
    ['one β too few', '.v[i] * over * over', '.v[i] * over'],
    [
      'decays without their own token',
      'row >= static_cast<int>(threadIdx.x)',
      'row > static_cast<int>(threadIdx.x)',
    ],
    [
      'nothing carried from chunk to chunk',
      'fmaf_rn(shared.decays.fromBegin(CHUNK - 1, channel), carried, sum)',
      'fmaf_rn(0.0f, carried, sum)',
    ],
    [
      'the decay of the token itself',
      'squares.factors[column + 1]',
      'squares.factors[column]',
      'decays of channels',
    ],
    [
      'a pair’s share left out',
      'i < first + 2 * half / STEP',
      'i < first + half / STEP',
      'decays of channels',
    ],
    ['dc over decays that are read', barrier('The decays are no longer read'), '$1', 'decays of channels'],
  ],
};

for (const [file, planted] of Object.entries(PLANTED)) {
  test(`mistakes planted in ${file} are found, and none without`, async (t) => {
    const mutants = planted.map((each) => mutant(file, each));
    t.is(mutants[0]!.error(emulator), 0);
    await findAll(t, mutants);
  });
}
