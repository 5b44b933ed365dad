import test from 'ava';
import fc from 'fast-check';
import { compareNodeNames, expandNodeList } from '../../../launcher/src/fleet/nodeList.ts';

const LISTS: Readonly<Record<string, readonly string[]>> = {
  n1: ['n1'],
  'h[1-3,7],gpu-[001-003],login': ['h1', 'h2', 'h3', 'h7', 'gpu-001', 'gpu-002', 'gpu-003', 'login'],
  'n[08-10]': ['n08', 'n09', 'n10'],
  'n[8-10]': ['n8', 'n9', 'n10'],
  'r[1-2]n[3-4]': ['r1n3', 'r1n4', 'r2n3', 'r2n4'],
  'rack[1-2]-ib.cluster.example': ['rack1-ib.cluster.example', 'rack2-ib.cluster.example'],
  'b[2],a[1]': ['b2', 'a1'],
};

for (const [list, nodes] of Object.entries(LISTS)) {
  test(`the list ${list} is expanded in its order`, (t) => {
    t.deepEqual(expandNodeList(list, 'SLURM_JOB_NODELIST'), nodes);
  });
}

const NONSENSE = [
  '',
  'n1,',
  ',n1',
  'n[1-3',
  'n1-3]',
  'n[[1-3]]',
  'n[]',
  'n[3-1]',
  'n[1-a]',
  'n[1-99999999]',
  'n[1-999][1-999]',
  'n 1',
  'n1;rm',
];

for (const list of NONSENSE) {
  test(`${JSON.stringify(list)} is refused as a list of nodes, by the name of its variable`, (t) => {
    const error = t.throws(() => expandNodeList(list, 'SLURM_JOB_NODELIST'), {
      code: 'SLUICE_E_PLACE_INVALID',
    });
    t.true(error.message.includes('SLURM_JOB_NODELIST'));
    t.true(error.message.includes(JSON.stringify(list)));
  });
}

/** A number of some digits, with the zeros before it that make it so long. */
const padded = (value: number, digits: number) => String(value).padStart(digits, '0');

test('every list that is written from nodes is expanded to the same nodes', (t) => {
  const group = fc.record({
    prefix: fc.stringMatching(/^[a-z][a-z-]{0,5}$/),
    digits: fc.integer({ min: 1, max: 4 }),
    ranges: fc.array(fc.tuple(fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 9 })), {
      minLength: 1,
      maxLength: 4,
    }),
  });
  fc.assert(
    fc.property(fc.array(group, { minLength: 1, maxLength: 4 }), (groups) => {
      const list = groups.map(({ prefix, digits, ranges }) => {
        const texts = ranges.map(([first, more]) =>
          more === 0 ? padded(first, digits) : `${padded(first, digits)}-${padded(first + more, digits)}`,
        );
        return `${prefix}[${texts.join(',')}]`;
      });
      const nodes = groups.flatMap(({ prefix, digits, ranges }) =>
        ranges.flatMap(([first, more]) =>
          Array.from({ length: more + 1 }, (_, i) => prefix + padded(first + i, digits)),
        ),
      );
      return JSON.stringify(expandNodeList(list.join(','), 'list')) === JSON.stringify(nodes);
    }),
  );
  t.pass();
});

test('names are ordered by the value of the numbers in them', (t) => {
  const ordered = [
    'a',
    'a1',
    'a2',
    'a10',
    'a10b',
    'b',
    'node7',
    'node66',
    'node66-ib',
    'rack2-9',
    'rack10-1',
  ];
  t.deepEqual([...ordered].reverse().sort(compareNodeNames), ordered);
  t.deepEqual(['n10', 'n9', 'n08'].sort(compareNodeNames), ['n08', 'n9', 'n10']);
});

test('the natural order is total: no two names are equal, and it does not depend on where sorting began', (t) => {
  const name = fc.stringMatching(/^[a-c0-2.-]{0,6}$/);
  fc.assert(
    fc.property(name, name, name, (a, b, c) => {
      const sign = (x: string, y: string) => Math.sign(compareNodeNames(x, y));
      const antisymmetric = sign(a, b) === -sign(b, a) && (sign(a, b) === 0) === (a === b);
      const transitive = !(sign(a, b) < 0 && sign(b, c) < 0) || sign(a, c) < 0;
      return antisymmetric && transitive;
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('numbers of any width are ordered as numbers', (t) => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 30n }), fc.bigInt({ min: 0n, max: 10n ** 30n }), (a, b) => {
      const expected = a < b ? -1 : a > b ? 1 : 0;
      return Math.sign(compareNodeNames(`node${a}`, `node${b}`)) === expected;
    }),
  );
  t.pass();
});
