import {
  type AttentionLayout,
  attentionHeads,
  gatedAttention,
  gateWidth,
  poolStatistics,
  projectionWidth,
  rmsNorm,
  rotaryTable,
  statisticsOfHead,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import {
  anyGate,
  anyHeadDim,
  anyWindow,
  documentLengths,
  layoutOf,
  withDocuments,
} from './support/attention.ts';
import {
  finiteDifferences,
  type Operands,
  type Operation,
  operand,
  randomValues,
  relativeError,
  runOperation,
  sameBits,
  threadsChangeNoBit,
  worstError,
} from './support/differential.ts';

function attentionOf(layout: AttentionLayout): Operation {
  return ({ q, k, v, gate }) => {
    const [q_NS, k_NS, v_NS] = [q, k, v].map((x) => x!.onTape() as tf.Tensor2D);
    return gatedAttention(q_NS!, k_NS!, v_NS!, gate?.onTape() as tf.Tensor2D | undefined, layout);
  };
}

function operandsOf(layout: AttentionLayout, seed = 1, scale = 2): Operands {
  const { batch, sequence, heads, keyValueHeads, headDim, gate } = layout;
  const tokens = batch * sequence;
  const operands = {
    q: operand(seed, [tokens, heads * headDim], scale),
    k: operand(seed + 1, [tokens, keyValueHeads * headDim], scale),
    v: operand(seed + 2, [tokens, keyValueHeads * headDim]),
  };
  if (gate === 'none') return operands;
  return { ...operands, gate: operand(seed + 3, [tokens, gateWidth(layout)], 4) };
}

const anyShape = fc.tuple(
  fc.integer({ min: 1, max: 3 }),
  fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 13, max: 140 })),
  fc.integer({ min: 1, max: 2 }),
  fc.integer({ min: 1, max: 3 }),
  anyHeadDim,
);

test('attention tells the largest logit of each head in passing, and computes the same', (t) => {
  fc.assert(
    fc.property(anyShape, anyGate, anyWindow, fc.nat(), (shape, gate, window, seed) => {
      const layout = { ...layoutOf(shape, gate), window };
      const operands = operandsOf(layout, seed);
      let told = new Float32Array();
      const telling: Operation = ({ q, k, v, gate }) => {
        const [q_NS, k_NS, v_NS] = [q, k, v].map((x) => x!.onTape() as tf.Tensor2D);
        const gates = gate?.onTape() as tf.Tensor2D | undefined;
        return gatedAttention(q_NS!, k_NS!, v_NS!, gates, layout, (largest) => {
          told = largest.slice();
        });
      };
      for (const backend of ['native', 'cpu'] as const) {
        const { output } = runOperation(backend, telling, operands);
        t.deepEqual(output, runOperation(backend, attentionOf(layout), operands).output);
        const expected = Array.from({ length: layout.batch * layout.heads }, (_, i) => {
          const { q, k } = { q: operands.q!.values, k: operands.k!.values };
          return statisticsOfHead({ q, k, layout }, Math.floor(i / layout.heads), i % layout.heads)
            .largestLogit;
        });
        t.true(relativeError(told, expected) < 2e-6, backend);
      }
    }),
    { numRuns: 25 },
  );
});

test('the native kernel agrees with the reference over random shapes', (t) => {
  fc.assert(
    fc.property(
      anyShape,
      anyGate,
      anyWindow,
      fc.nat(),
      fc.boolean(),
      (shape, gate, window, seed, areSeparate) => {
        const packed = { ...layoutOf(shape, gate), window };
        const lengths = documentLengths(packed.batch, packed.sequence, seed);
        const layout = areSeparate ? withDocuments(packed, lengths) : packed;
        const operands = operandsOf(layout, seed);
        const attention = attentionOf(layout);
        const error = worstError(
          runOperation('native', attention, operands),
          runOperation('cpu', attention, operands),
        );
        t.true(error < 1e-5, `${JSON.stringify(layout)}: ${error}`);
      },
    ),
    { numRuns: 60 },
  );
});

test('every combination of gate and sharing is right for a head of each size', (t) => {
  for (const headDim of [2, 4, 8, 16, 32, 64, 128]) {
    for (const [gate, group] of [
      ['none', 1],
      ['elementwise', 2],
      ['headwise', 5],
    ] as const) {
      const layout = layoutOf([1, 67, 1, group, headDim], gate);
      const operands = operandsOf(layout);
      const [native, reference] = ['native', 'cpu'].map((backend) =>
        runOperation(backend, attentionOf(layout), operands),
      );
      t.true(worstError(native!, reference!) < 1e-5, JSON.stringify(layout));
    }
  }
});

/** The definition once more, over arrays of doubles. */
function plainAttention(
  layout: AttentionLayout,
  { q, k, v, gate }: Readonly<Record<string, Float64Array>>,
): Float64Array {
  const { batch, sequence, documents, heads, keyValueHeads, headDim, gate: kind, scoreCap: cap } = layout;
  const { window = Number.POSITIVE_INFINITY } = layout;
  const capped = (score: number) => (cap === undefined ? score : cap * Math.tanh(score / cap));
  const y = new Float64Array(q!.length);
  for (let token = 0; token < batch * sequence; token++) {
    const begin = documents?.findLast((start) => start <= token) ?? token - (token % sequence);
    const firstToken = Math.max(begin, token + 1 - window);
    for (let head = 0; head < heads; head++) {
      const at = (token * heads + head) * headDim;
      const shared = Math.floor((head * keyValueHeads) / heads);
      const keyAt = (other: number) => (other * keyValueHeads + shared) * headDim;
      const scores: number[] = [];
      for (let other = firstToken; other <= token; other++) {
        let dot = 0;
        for (let c = 0; c < headDim; c++) dot += q![at + c]! * k![keyAt(other) + c]!;
        scores.push(capped(dot / Math.sqrt(headDim)));
      }
      const highest = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - highest));
      const total = weights.reduce((a, b) => a + b, 0);
      for (let c = 0; c < headDim; c++) {
        const logit =
          kind === 'elementwise' ? gate![at + c]! : kind === 'headwise' ? gate![at / headDim]! : Infinity;
        const mean = weights.reduce((sum, w, i) => sum + w * v![keyAt(firstToken + i) + c]!, 0) / total;
        y[at + c] = mean / (1 + Math.exp(-logit));
      }
    }
  }
  return y;
}

test('the gradient agrees with finite differences in double precision', (t) => {
  for (const gate of ['none', 'elementwise', 'headwise'] as const) {
    const packed = layoutOf([2, 7, 2, 2, 4], gate);
    const separate = withDocuments(packed, [3, 1, 3, 5, 2]);
    for (const layout of [packed, separate, { ...packed, window: 3 }, { ...separate, window: 2 }]) {
      const operands = operandsOf(layout);
      const expected = finiteDifferences((doubles) => plainAttention(layout, doubles), operands);
      t.true(worstError(runOperation('native', attentionOf(layout), operands), expected) < 2e-5, gate);
    }
  }
});

test('a document that is kept apart has the bits that it has alone, wherever it begins', (t) => {
  // Lengths and beginnings that lie on and beside the borders of the kernel's blocks, for one panel of a head and for two.
  for (const [lengths, group, scoreCap, window] of [
    [[1, 63, 64, 65, 7, 130, 31, 39], 2, undefined, undefined],
    [[33, 129, 2, 96, 140], 9, undefined, undefined],
    [[400], 1, undefined, undefined],
    [[1, 63, 64, 65, 207], 2, 1.5, undefined],
    [[1, 63, 64, 65, 7, 130, 31, 39], 2, undefined, 50],
  ] as const) {
    for (const gate of ['none', 'elementwise', 'headwise'] as const) {
      const layout = { ...withDocuments(layoutOf([1, 400, 2, group, 32], gate), lengths), scoreCap, window };
      const operands = operandsOf(layout);
      const dy = randomValues(99, 400 * 2 * group * 32);
      const all = runWithGradient(layout, operands, dy);
      for (const [i, begin] of layout.documents!.entries()) {
        const length = lengths[i]!;
        const one = { ...layoutOf([1, length, 2, group, 32], gate), scoreCap, window };
        const alone = runWithGradient(one, rowsOf(operands, begin, length), dy.slice(begin * 64 * group));
        for (const [name, values] of Object.entries(alone)) {
          const width = values.length / length;
          const part = all[name]!.subarray(begin * width, (begin + length) * width);
          t.deepEqual(part, values, `${name} of ${length} tokens from ${begin} on, gate ${gate}`);
        }
      }
    }
  }
});

/** The output and all gradients, of the loss Σ y·dy. */
function runWithGradient(
  layout: AttentionLayout,
  operands: Operands,
  dy: Float32Array,
): Record<string, Float32Array> {
  const weigh: Operation = (parameters) => {
    const y = attentionOf(layout)(parameters);
    return tf.mul(y, tf.tensor(dy.subarray(0, y.size), y.shape));
  };
  const sum: Operation = (parameters) => tf.sum(weigh(parameters));
  const { output } = runOperation('native', attentionOf(layout), operands);
  return { output, ...runOperation('native', sum, operands).gradients };
}

function rowsOf(operands: Operands, begin: number, count: number): Operands {
  const cut = Object.entries(operands).map(([name, { shape, values }]) => {
    const width = shape[1]!;
    return [name, { shape: [count, width], values: values.slice(begin * width, (begin + count) * width) }];
  });
  return Object.fromEntries(cut);
}

test('scores may be capped before their softmax', (t) => {
  for (const gate of ['none', 'elementwise', 'headwise'] as const) {
    const packed = { ...layoutOf([2, 7, 2, 2, 4], gate), scoreCap: 0.7 };
    for (const layout of [packed, withDocuments(packed, [3, 1, 3, 5, 2])]) {
      const operands = operandsOf(layout);
      const expected = finiteDifferences((doubles) => plainAttention(layout, doubles), operands);
      for (const backend of ['native', 'cpu'])
        t.true(worstError(runOperation(backend, attentionOf(layout), operands), expected) < 2e-5, gate);
    }
  }
});

test('a long sequence agrees with double precision, with a window and without', (t) => {
  for (const window of [undefined, 100])
    agreesWithDoubles(t, { ...layoutOf([1, 700, 1, 2, 32], 'elementwise'), window });
});

function agreesWithDoubles(t: ExecutionContext, layout: AttentionLayout) {
  const operands = operandsOf(layout);
  const doubles = Object.fromEntries(
    Object.entries(operands).map(([name, { values }]) => [name, Float64Array.from(values)]),
  );
  const { output } = runOperation('native', attentionOf(layout), operands);
  t.true(relativeError(output, plainAttention(layout, doubles)) < 2e-6);
}

test('a window that is as long as the sequence changes no bit', (t) => {
  const layout = layoutOf([2, 150, 2, 2, 18], 'elementwise');
  const operands = operandsOf(layout);
  const without = runOperation('native', attentionOf(layout), operands);
  for (const window of [150, 151, 1e6]) {
    t.true(
      sameBits(runOperation('native', attentionOf({ ...layout, window }), operands), without),
      `${window}`,
    );
  }
});

test('a token that the window has left behind changes nothing', (t) => {
  const layout = { ...layoutOf([1, 200, 1, 2, 16], 'none'), window: 40 };
  const operands = operandsOf(layout);
  const before = runOperation('native', attentionOf(layout), operands).output;
  for (const token of [0, 31, 63, 100]) {
    const changed = withRowsChanged(operands, token, token + 1);
    const after = runOperation('native', attentionOf(layout), changed).output;
    t.true(rowsAreSame(before, after, token + 40, 200, 32), `${token}`);
    t.false(rowsAreSame(before, after, token + 39, token + 40, 32), `${token}`);
  }
});

test('the number of threads changes no bit, whether items or blocks are shared out', (t) => {
  for (const shape of [
    [4, 130, 2, 2, 16] as const,
    [1, 450, 1, 3, 32] as const,
    [1, 300, 1, 20, 32] as const,
  ]) {
    const layout = layoutOf([...shape], 'elementwise');
    const operands = operandsOf(layout);
    t.true(threadsChangeNoBit(attentionOf(layout), operands, [1, 2, 3, 5]), `${shape}`);
    const separate = withDocuments(layout, documentLengths(layout.batch, layout.sequence, 9));
    t.true(threadsChangeNoBit(attentionOf(separate), operands, [1, 2, 3, 5]), `documents, ${shape}`);
    t.true(
      threadsChangeNoBit(attentionOf({ ...layout, window: 70 }), operands, [1, 2, 3, 5]),
      `window, ${shape}`,
    );
  }
});

/** `operands` with other random numbers in some rows of every operand. */
function withRowsChanged(operands: Operands, begin: number, end: number): Operands {
  const changed = Object.entries(operands).map(([name, { shape, values }]) => {
    const width = shape[1]!;
    const other = values.slice();
    other.set(randomValues(77, (end - begin) * width, 5), begin * width);
    return [name, { shape, values: other }];
  });
  return Object.fromEntries(changed);
}

function rowsAreSame(a: Float32Array, b: Float32Array, begin: number, end: number, width: number): boolean {
  const bits = (x: Float32Array) => Buffer.from(x.slice(begin * width, end * width).buffer);
  return bits(a).equals(bits(b));
}

test('a change of one token changes nothing before it, and something from it on', (t) => {
  const layout = layoutOf([1, 140, 1, 2, 16], 'headwise');
  const operands = operandsOf(layout);
  const before = runOperation('native', attentionOf(layout), operands).output;
  for (const token of [0, 1, 31, 32, 63, 64, 100, 139]) {
    const after = runOperation(
      'native',
      attentionOf(layout),
      withRowsChanged(operands, token, token + 1),
    ).output;
    t.true(rowsAreSame(before, after, 0, token, 32), `before ${token}`);
    for (let later = token; later < 140; later++) t.false(rowsAreSame(before, after, later, later + 1, 32));
  }
});

test('what a sequence gets and gives back does not depend on the others in the batch', (t) => {
  const layout = layoutOf([3, 70, 2, 2, 8], 'elementwise');
  const operands = operandsOf(layout);
  const before = runOperation('native', attentionOf(layout), operands);
  const after = runOperation('native', attentionOf(layout), withRowsChanged(operands, 140, 210));
  t.true(rowsAreSame(before.output, after.output, 0, 140, 32));
  for (const [name, { shape }] of Object.entries(operands)) {
    t.true(rowsAreSame(before.gradients[name]!, after.gradients[name]!, 0, 140, shape[1]!), name);
    t.false(rowsAreSame(before.gradients[name]!, after.gradients[name]!, 140, 210, shape[1]!), name);
  }
});

test('extremely large scores choose one key and overflow nothing', (t) => {
  const layout = layoutOf([1, 100, 1, 1, 32], 'elementwise');
  const operands = operandsOf(layout, 3, 1e4);
  const outcomes = ['native', 'cpu'].map((backend) => runOperation(backend, attentionOf(layout), operands));
  for (const values of [outcomes[0]!.output, ...Object.values(outcomes[0]!.gradients)]) {
    t.true(values.every(Number.isFinite));
  }
  t.true(relativeError(outcomes[0]!.output, outcomes[1]!.output) < 1e-5);
});

test('gates that are wide open or shut pass everything or nothing', (t) => {
  const layout = layoutOf([1, 40, 1, 1, 8], 'elementwise');
  const operands = operandsOf(layout);
  const gate = operands.gate!.values;
  gate.forEach((_, i) => {
    gate[i] = i % 2 === 0 ? 1e30 : -1e30;
  });
  const { output, gradients } = runOperation('native', attentionOf(layout), operands);
  const open = runOperation(
    'native',
    attentionOf({ ...layout, gate: 'none' }),
    operandsOf({ ...layout, gate: 'none' }),
  );
  output.forEach((y, i) => {
    if (i % 2 === 0) t.is(y, open.output[i]!);
    else t.true(Math.abs(y) < 1e-30);
  });
  t.true(gradients.gate!.every((d) => Math.abs(d) < 1e-30));
});

test('a number that is not finite shows in the output', (t) => {
  const layout = layoutOf([1, 40, 1, 1, 8], 'none');
  for (const name of ['q', 'k', 'v']) {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const operands = operandsOf(layout);
      operands[name]!.values[20 * 8] = bad;
      const { output } = runOperation('native', attentionOf(layout), operands);
      const shown = output.subarray(20 * 8).some((y) => !Number.isFinite(y));
      t.true(shown, `${name} ${bad}`);
    }
  }
});

test('memory grows with the length of the sequence, not with its square', (t) => {
  const layout = layoutOf([1, 12_000, 1, 1, 2], 'headwise');
  const operands = operandsOf(layout);
  const before = process.resourceUsage().maxRSS;
  runOperation('native', attentionOf(layout), operands);
  // One matrix of all scores would take 576 MB.
  t.true(process.resourceUsage().maxRSS - before < 100_000);
});

test('a backward pass leaves no memory behind', (t) => {
  const layout = layoutOf([2, 50, 2, 2, 16], 'elementwise');
  const operands = operandsOf(layout);
  runOperation('native', attentionOf(layout), operands);
  const used = poolStatistics().usedBytes;
  runOperation('native', attentionOf(layout), operands);
  t.is(poolStatistics().usedBytes, used);
});

test('gradients are right where they take the memory of their inputs', (t) => {
  const layout = layoutOf([2, 75, 2, 2, 16], 'elementwise');
  const rotary = rotaryTable(75, 16, 10000);
  // What stands before and after leaves activations and gradients that nobody else holds.
  const block: Operation = ({ projection, gain }) => {
    const heads = attentionHeads(projection!.onTape() as tf.Tensor2D, null, null, rotary, layout);
    const y_NS = gatedAttention(heads.q, heads.k, heads.v, heads.gate, layout);
    return rmsNorm(y_NS, gain!, 1e-6);
  };
  const operands = {
    projection: operand(1, [150, projectionWidth(layout)], 2),
    gain: operand(2, [64]),
  };
  const [native, reference] = ['native', 'cpu'].map((backend) => runOperation(backend, block, operands));
  t.true(worstError(native!, reference!) < 1e-5);
});
