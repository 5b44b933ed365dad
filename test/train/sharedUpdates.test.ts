/** New values travel while the next forward pass begins. */

import { type Group, type Pending, sharedFloat32 } from '@sluice/collectives';
import { ModelConfig, modelParameters } from '@sluice/model';
import { OptimizerConfig } from '@sluice/train';
import test from 'ava';
import { blockLayout } from '../../packages/train/src/blockLayout.ts';
import { FlatSpace } from '../../packages/train/src/flatSpace.ts';
import { ShardedOptimizer } from '../../packages/train/src/optimizer/sharded.ts';

const model = ModelConfig.parse({
  ...{ vocabularySize: 96, hiddenSize: 64, numLayers: 2, intermediateSize: 96 },
  ...{ numAttentionHeads: 4, numKeyValueHeads: 2, headDim: 8 },
});

/** The first of two ranks; its gathers end when they are waited for, and are noted by where they begin. */
function fakeGroup(log: string[]): Group {
  const unused = (): Pending => {
    throw new Error('not used');
  };
  return {
    ...{ ranks: [0, 1], rank: 0, size: 2, allReduce: unused, reduceScatter: unused },
    ...{ allToAll: unused, broadcast: unused, barrier: unused },
    allGather(_, [own]) {
      log.push(`gather ${own!.start}`);
      return { done: false, wait: () => log.push(`wait ${own!.start}`) };
    },
  };
}

test('values are sent in the order in which a forward pass needs them, and waited for when they are read', (t) => {
  const log: string[] = [];
  const config = OptimizerConfig.parse({ learningRate: 0.1 });
  const space = new FlatSpace('replicated', modelParameters(model), fakeGroup(log));
  const blocks = blockLayout(model);
  const optimizer = new ShardedOptimizer(config, space, blocks, new Float64Array(2 * blocks.count));
  const begins = (stage: number) => space.stage(stage)!.slices[0]!.start;
  optimizer.share();
  t.deepEqual(
    log.splice(0),
    [3, 2, 1, 0].map((stage) => `gather ${begins(stage)}`),
  );
  const inFirstLayer = space.parameters.filter(({ spec }) => spec.stage === 2);
  t.true(inFirstLayer.length > 1);
  for (const { parameter } of inFirstLayer)
    t.is(
      parameter.values.length,
      parameter.shape.reduce((a, b) => a * b),
    );
  t.deepEqual(new Set(log.splice(0)), new Set([`wait ${begins(2)}`]));
  for (const { parameter } of inFirstLayer) t.truthy(parameter.values);
  t.deepEqual(log, []);

  // Nothing that is still being sent may be changed.
  optimizer.update(sharedFloat32(space.length), {
    ...{ step: 1, learningRate: 0.1 },
    gradientScales: {
      embedding: 1,
      attention: 1,
      gate: 1,
      feedForward: 1,
      experts: 1,
      router: 1,
      norms: 1,
      head: 1,
    },
  });
  t.deepEqual(
    log,
    [3, 2, 1, 0].map((stage) => `wait ${begins(stage)}`),
  );
});
