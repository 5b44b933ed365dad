import { hostArray } from '@sluice/engine';
/** The order of sums is the product's promise: lanes by a binary tree, sources apart until they are added. */

import { type ElementRange, sharedFloat32, soloGroup } from '@sluice/collectives';
import { BLOCK_ELEMENTS } from '@sluice/core';
import { ModelConfig, modelParameters } from '@sluice/model';
import { OptimizerConfig } from '@sluice/train';
import test from 'ava';
import fc from 'fast-check';
import { FlatSpace } from '../../packages/train/src/flatSpace.ts';
import { GradientBudget } from '../../packages/train/src/gradientMemory.ts';
import { GradientSums } from '../../packages/train/src/gradients.ts';
import { wholeMatrices } from '../../packages/train/src/optimizer/settings.ts';
import { layoutGroup } from './support/layoutGroup.ts';
import { tinyRun } from './support/tinyTrainer.ts';

const model = ModelConfig.parse({
  vocabularySize: 96,
  hiddenSize: 80,
  numLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 8,
  experts: { count: 4, topK: 2, intermediateSize: 60 },
});

/** A host has room for all. */
const budget = new GradientBudget(tinyRun());

function value(seed: number, index: number): number {
  return Math.fround(Math.sin(seed * 78.233 + index * 12.9898) * 10 ** (seed % 4));
}

/** What a lane contributes to each element of a parameter: grains in order. */
function laneSum(lane: number, grains: number, index: number): number {
  let sum = value(lane * grains, index);
  for (let grain = 1; grain < grains; grain++) sum = Math.fround(sum + value(lane * grains + grain, index));
  return sum;
}

function treeSum(first: number, lanes: number, sumOf: (lane: number) => number): number {
  if (lanes === 1) return sumOf(first);
  return Math.fround(treeSum(first, lanes / 2, sumOf) + treeSum(first + lanes / 2, lanes / 2, sumOf));
}

test('grains are summed in order within a lane, lanes by a binary tree', (t) => {
  for (const [lanes, grains] of [
    [1, 3],
    [2, 1],
    [8, 2],
  ] as const) {
    const space = new FlatSpace('replicated', modelParameters(model), soloGroup());
    const sums = new GradientSums(space, 1, budget);
    sums.beginStep();
    for (let lane = 0; lane < lanes; lane++) {
      sums.beginLane();
      for (let grain = 0; grain < grains; grain++) {
        for (const { parameter } of space.parameters) {
          parameter.contribute(({ values: target, accumulate }) => {
            const values = hostArray(target);
            for (let i = 0; i < values.length; i++) {
              const contribution = value(lane * grains + grain, i);
              values[i] = accumulate ? values[i]! + contribution : contribution;
            }
          });
        }
      }
      if (lane < lanes - 1) sums.endLane();
    }
    for (const stage of space.stages) sums.completeStage(stage);
    for (const { offset, spec } of space.parameters) {
      for (const i of [0, spec.size - 1]) {
        const expected = treeSum(0, lanes, (lane) => laneSum(lane, grains, i));
        t.is(hostArray(sums.total)[offset + i], expected, `${lanes} lanes, ${spec.name}[${i}]`);
      }
    }
  }
});

test('the tokens of each source are kept apart and added by the tree', (t) => {
  const sources = 4;
  const space = new FlatSpace('expert', modelParameters(model), soloGroup());
  const sums = new GradientSums(space, sources, budget);
  sums.beginStep();
  sums.beginLane();
  for (const { parameter } of space.parameters) {
    for (const source of [2, 0, 3, 1]) {
      parameter.contribute((target) => {
        const values = hostArray(target.values);
        for (let i = 0; i < values.length; i++) values[i] = value(source, i);
      }, source);
    }
  }
  for (const stage of space.stages) sums.completeStage(stage);
  const { offset, spec } = space.parameters[0]!;
  const expected = Array.from({ length: spec.size }, (_, i) =>
    treeSum(0, sources, (source) => value(source, i)),
  );
  t.deepEqual([...hostArray(sums.total).subarray(offset, offset + spec.size)], expected);
});

test('a parameter that nothing reached has the gradient zero, whatever the step before left', (t) => {
  const space = new FlatSpace('replicated', modelParameters(model), soloGroup());
  const sums = new GradientSums(space, 1, budget);
  const step = (fill: boolean) => {
    sums.beginStep();
    for (let lane = 0; lane < 2; lane++) {
      sums.beginLane();
      if (fill)
        for (const { parameter } of space.parameters)
          parameter.contribute(({ values }) => hostArray(values).fill(1));
      if (lane === 0) sums.endLane();
    }
    for (const stage of space.stages) sums.completeStage(stage);
  };
  step(true);
  t.is(hostArray(sums.total)[0], 2);
  step(false);
  t.true(hostArray(sums.total).every((gradient) => gradient === 0));
});

test('the slices of all workers cover every tensor once, cut only between blocks', (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom(1, 2, 4, 8),
      fc.constantFrom('replicated' as const, 'expert' as const),
      (size, placement) => {
        const covered = new Map<string, ElementRange[]>();
        for (let rank = 0; rank < size; rank++) {
          for (const { tensor, begin, end } of new FlatSpace(
            placement,
            modelParameters(model),
            layoutGroup(rank, size),
          ).ownedPieces) {
            t.is(begin % BLOCK_ELEMENTS, 0);
            t.true(end === tensor.size || end % BLOCK_ELEMENTS === 0);
            covered.set(tensor.name, [...(covered.get(tensor.name) ?? []), { start: begin, end }]);
          }
        }
        for (const spec of modelParameters(model).filter((s) => s.placement === placement)) {
          for (const { name, size: elements } of spec.tensors) {
            let next = 0;
            for (const { start, end } of covered.get(name)!.sort((a, b) => a.start - b.start)) {
              t.is(start, next);
              next = end;
            }
            t.is(next, elements);
          }
        }
      },
    ),
    { numRuns: 8 },
  );
});

test('whole matrices belong to one worker each, and the work is spread evenly over the layers', (t) => {
  const deep = ModelConfig.parse({ ...model, numLayers: 12 });
  const specs = modelParameters(deep);
  const config = OptimizerConfig.parse({ kind: 'muon', learningRate: 1 });
  const whole = wholeMatrices(config);
  for (const placement of ['replicated', 'expert'] as const) {
    for (const size of [1, 2, 4]) {
      const pieces = Array.from(
        { length: size },
        (_, rank) => new FlatSpace(placement, specs, layoutGroup(rank, size), whole).ownedPieces,
      );
      for (const { tensor, spec, begin, end } of pieces.flat()) {
        if (whole(spec, tensor) !== undefined) t.deepEqual([begin, end], [0, tensor.size], tensor.name);
      }
      const owned = pieces.flat().map(({ tensor, begin }) => `${tensor.name} ${begin}`);
      t.is(new Set(owned).size, owned.length);
      t.is(
        pieces.flat().reduce((sum, { begin, end }) => sum + end - begin, 0),
        specs.filter((spec) => spec.placement === placement).reduce((sum, spec) => sum + spec.size, 0),
      );
      const work = pieces.map((own) =>
        own.reduce((sum, { spec, tensor, begin, end }) => sum + (whole(spec, tensor) ?? end - begin), 0),
      );
      t.true(Math.max(...work) < 1.15 * (work.reduce((a, b) => a + b) / size), `${placement}, ${work}`);
    }
  }
});

test('shared memory holds the values, so that the communication thread can send them', (t) => {
  const space = new FlatSpace('replicated', modelParameters(model), soloGroup());
  t.true(hostArray(space.memories[0]!.values).buffer instanceof SharedArrayBuffer);
  t.true(sharedFloat32(4).buffer instanceof SharedArrayBuffer);
});
