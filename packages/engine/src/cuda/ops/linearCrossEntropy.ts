import { invariant } from '@sluice/core';
import { readValues } from '../../backend.ts';
import { implementFused } from '../../fused.ts';
import { LINEAR_CROSS_ENTROPY } from '../../ops/linearCrossEntropy.ts';
import { cudaBackend } from '../backend.ts';
import { type CrossEntropyArguments, linearCrossEntropy } from '../crossEntropy.ts';
import { fill } from '../flatArithmetic.ts';
import { masterOf, weightsOf } from '../weights.ts';
import { checkWidths } from './operands.ts';

implementFused('cuda', LINEAR_CROSS_ENTROPY, {
  forward({ input, shape, recording, saved, attributes: { weight, targets, options } }) {
    const [tokens, channels] = shape('x') as [number, number];
    const vocabulary = weight.shape[0]!;
    checkWidths('output layer', { channels, 'tokens of the vocabulary': vocabulary });
    const { scale, cap = 0 } = options;
    const losses = saved.floats('losses', tokens);
    const run = (gradients?: NonNullable<CrossEntropyArguments['gradients']>) => {
      const operands = { x: input('x'), weight: weightsOf(weight), targets, losses, vocabulary };
      linearCrossEntropy({ ...operands, scale, cap, ...(gradients && { gradients }) });
    };
    if (recording) {
      // Known before the backward pass.
      const dx = saved.activations('dx', tokens * channels);
      weight.contribute((target) => {
        const dWeight = masterOf(target);
        if (!target.accumulate) fill(dWeight, 0);
        run({ dx, dWeight });
      });
    } else {
      run();
    }
    const sum = losses.read().reduce((sum, loss) => sum + loss, 0);
    saved.free('losses');
    return cudaBackend().upload(Float32Array.of(scale * sum), []);
  },
  backward({ saved, attributes: { weight, targets } }, [dy]) {
    const factor = readValues(dy!)[0];
    invariant(factor === 1, `the gradient of the cross-entropy's result is ${factor}, not 1`);
    return { x: saved.tensor('dx', [targets.length, weight.shape[1]!]) };
  },
});
