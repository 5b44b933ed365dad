/** Made-up results of searches for the largest stable learning rate. */

import { FIND_LR_FORMAT, FindLrResults, type FindLrVariant, summarizeLargestStable } from '@sluice/observe';
import fc from 'fast-check';

const CONFIG = 'c'.repeat(64);

type Search = FindLrVariant['seeds'][number];

/** A search that tried the powers of two from 1e-3 on, stable up to `largest`. */
export function search(seed: number, largest: number, tried = 5): Search {
  const probes = Array.from({ length: tried }, (_, i): Search['probes'][number] => {
    const learningRate = 1e-3 * 2 ** i;
    const isStable = learningRate <= largest;
    return {
      ...{ learningRate, outcome: isStable ? 'stable' : 'unstable', step: isStable ? 400 : 40 },
      validationLoss: isStable ? 4.5 - 0.1 * i + 0.01 * seed : null,
      ...{ trainLoss: isStable ? 4.4 - 0.1 * i : 7, spikesPerThousand: isStable ? 0 : 25 },
      reason: isStable ? null : 'the loss stayed above that of the unigram model',
      ...{ configHash: CONFIG, weightsHash: isStable ? 'd'.repeat(64) : null },
      arithmetic: isStable ? 'fma-1' : null,
    };
  });
  const rates = (outcome: string) =>
    probes.filter((probe) => probe.outcome === outcome).map(({ learningRate }) => learningRate);
  return {
    ...{ seed, probes, largestStable: rates('stable').at(-1) ?? null },
    smallestUnstable: rates('unstable')[0] ?? null,
  };
}

export function variant(name: string, seeds: readonly Search[]): FindLrVariant {
  return {
    ...{ name, method: `method of ${name}`, parameters: { total: 7e6, active: 7e6, added: 0 } },
    ...{ seeds: [...seeds], summary: summarizeLargestStable(seeds) },
  };
}

export function findLrResults(changes: Partial<FindLrResults> = {}): FindLrResults {
  return FindLrResults.parse({
    ...{ format: FIND_LR_FORMAT, name: 'rates', title: 'Largest stable rates', source: null, scale: 'tiny' },
    ...{ version: '0.1.0', arithmetic: 'fma-1', steps: 400, tokensPerStep: 2048, resolution: 2 },
    criterion: 'the last loss is below that of the unigram model and no step was non-finite',
    unigramLoss: 6.5,
    variants: [
      variant('baseline', [search(1, 2e-3), search(2, 4e-3), search(3, 2e-3)]),
      variant('gate', [search(1, 8e-3), search(2, 16e-3), search(3, 8e-3)]),
    ],
    notTried: ['rates above 1.6e-2'],
    ...changes,
  });
}

const number = fc.double({ noNaN: true, noDefaultInfinity: true });
const rate = fc.double({ min: 1e-12, max: 1e3, noNaN: true });
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: null });
const text = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constant('</script><b>"&'));
const hash = fc.constant(CONFIG);

/** Whatever the schema takes, sensible or not. */
export const anyFindLrResults: fc.Arbitrary<FindLrResults> = fc
  .record({
    format: fc.constant(FIND_LR_FORMAT),
    ...{ name: text, title: text, source: maybe(text), scale: text, version: text, arithmetic: text },
    ...{ steps: fc.integer({ min: 1 }), tokensPerStep: fc.integer({ min: 1 }), criterion: text },
    ...{ resolution: fc.double({ min: 1.01, max: 100, noNaN: true }), unigramLoss: maybe(number) },
    variants: fc.array(
      fc.record({
        ...{ name: text, method: text },
        parameters: fc.record({ total: fc.nat(), active: fc.nat(), added: fc.integer() }),
        seeds: fc.array(
          fc.record({
            ...{ seed: fc.integer(), largestStable: maybe(rate), smallestUnstable: maybe(rate) },
            probes: fc.array(
              fc.record({
                ...{ learningRate: rate, outcome: fc.constantFrom('stable', 'unstable', 'failed') },
                ...{ step: fc.nat(), validationLoss: maybe(number), trainLoss: maybe(number) },
                spikesPerThousand: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
                ...{
                  reason: maybe(text),
                  configHash: hash,
                  weightsHash: maybe(hash),
                  arithmetic: maybe(text),
                },
              }),
              { maxLength: 4 },
            ),
          }),
          { maxLength: 3 },
        ),
      }),
      { maxLength: 3 },
    ),
    notTried: fc.array(text, { maxLength: 2 }),
  })
  .map(({ variants, ...rest }) =>
    FindLrResults.parse({
      ...rest,
      variants: variants.map((each) => ({ ...each, summary: summarizeLargestStable(each.seeds) })),
    }),
  );
