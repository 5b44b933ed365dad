/** Mistakes planted in Hopper's kernels of attention, each of which must be found. */

import { type Emulator, LAYOUT, operandsOf, runAttention } from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator, floatsOf } from '../support/cuda.ts';
import { findAll, type Mutant } from '../support/cudaMutants.ts';

/**
 * More tiles than a ring has stages, of two documents. The first one's last block has rows for one consumer alone, and its last tile so many of
 * the other document that threads of both consumers clear some.
 */
const layout = { ...LAYOUT, headDim: 64, sequence: 360, documents: Int32Array.of(0, 300), window: 200 };

/** Results, where the second document's rows are no numbers. */
function resultsOn(on: Emulator['device'], isHopper: boolean): number[] {
  const operands = operandsOf(on, layout);
  for (const operand of Object.values(operands)) {
    const { array } = operand!;
    const other = array.subarray((layout.documents[1]! * array.length) / layout.sequence);
    other.write(new Uint16Array(other.length).fill(0x7fff));
  }
  const results = runAttention(layout, operands, { isHopper });
  return (['y', 'dq', 'dk', 'dv'] as const).flatMap((name) => [...floatsOf(results[name])]);
}

let expected: number[] | undefined;
/** How many values are others than those by `mma.sync`. */
const otherValues = (emulated: Emulator) => {
  // The producer, and the consumer that has more to do, come last.
  emulator.set({ arithmetic: 'exact', order: 'backward' });
  try {
    expected ??= resultsOn(device, false);
    const actual = resultsOn(emulated.device, true);
    return expected.filter((value, i) => !Object.is(actual[i], value)).length * 2;
  } finally {
    emulator.set({});
  }
};

/** Kernels of other sizes of heads, which need not be compiled. */
const OTHER_SIZES = /KERNEL\(\w+(128|256),[^}]*}\n/g;

function mutant(file: string, [what, from, to]: readonly [what: string, from: string, to: string]): Mutant {
  const plant = (text: string) => {
    if (!text.includes(from)) throw new Error(`${file} has no such place: ${from}`);
    return text.replace(from, to).replaceAll(OTHER_SIZES, '');
  };
  return { what, file, plant, error: otherValues };
}

const MUTANTS: readonly Mutant[] = [
  ...(
    [
      ['keys that are not waited for', 'waitUntilFull(shared.keys, keys);\n        holdSums', 'holdSums'],
      ['keys over those that are read', '      waitUntilEmpty(shared.keys, turn);\n', ''],
      ['stages given back by some of their readers', 'CONSUMERS * WARPGROUP / 32', 'WARPGROUP / 32'],
      ['a consumer that runs ahead', 'waitUntilFull(shared.keys, keys);\n      giveBack', 'giveBack'],
      ['scores that are not waited for', 'waitForProducts<1>();', 'waitForProducts<2>();'],
      ['keys beyond the query', 'heads).first, own.first + 1, own)', 'heads).first, own.first + ROWS, own)'],
      ['keys before the window', 'keysSeenBy(own.first + ROWS - 1, own, heads).first', 'own.begin'],
      [
        'values of another document',
        '        clearOthers(shared.v[values.stage], consumer, own, own.begin + tile * ROWS);\n',
        '',
      ],
      ['zeros that products do not see', '    publishWrites();\n', ''],
    ] as const
  ).map((planted) => mutant('attentionHopper', planted)),
  ...(
    [
      [
        'statistics that nobody waits for',
        'beginBackward(shared.queries, 2,',
        'beginBackward(shared.queries, 1,',
      ],
      [
        'queries of another document',
        'if (firstQuery + LINES > own.end) clearOthers(',
        'if (false) clearOthers(',
      ],
      [
        'zeros of the other consumer’s threads not waited for',
        '    syncThreads(CONSUMER_BARRIER, CONSUMERS * WARPGROUP);\n',
        '',
      ],
      ['turns that are not left to the other consumer', '        leaveOutTurns(consumer);\n', ''],
      ['each tile begins anew', 'dKeys, ofKeys, q, true', 'dKeys, ofKeys, q, false'],
      ['keys as they lie', 'rows.across(line), accumulate', 'rows.along(line), accumulate'],
    ] as const
  ).map((planted) => mutant('attentionBackwardHopper', planted)),
];

for (const file of new Set(MUTANTS.map((each) => each.file))) {
  test.serial(`mistakes planted in ${file} are found, and none without`, async (t) => {
    t.is(otherValues(emulator), 0);
    await findAll(
      t,
      MUTANTS.filter((each) => each.file === file),
    );
  });
}
