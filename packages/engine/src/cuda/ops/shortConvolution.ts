import { implementFused } from '../../fused.ts';
import { SHORT_CONVOLUTION } from '../../ops/shortConvolution.ts';
import { shortConvolution, shortConvolutionBackward } from '../shortConvolution.ts';
import { masterOf } from '../weights.ts';
import { positionsOf } from './operands.ts';

implementFused('cuda', SHORT_CONVOLUTION, {
  forward({ input, shape, output, attributes: { weight, convolution } }) {
    const [x, y] = [input('x'), output(shape('x'))];
    const isSilu = convolution.activation === 'silu';
    const position = positionsOf(x.device, convolution);
    const operands = { x, weights: masterOf(weight), position, taps: weight.shape[2]!, isSilu };
    shortConvolution(operands, y.values);
    return y.info;
  },
  backward({ valuesOf, over, attributes: { weight, convolution } }, [dyTensor], [xTensor]) {
    const [x, dy] = [valuesOf(xTensor!), valuesOf(dyTensor!)];
    const dx = over(dyTensor!);
    const isSilu = convolution.activation === 'silu';
    const position = positionsOf(x.device, convolution);
    const operands = { x, weights: masterOf(weight), position, taps: weight.shape[2]!, isSilu, dy };
    weight.contribute((target) => {
      const { accumulate } = target;
      const gradients = { dx: dx.values, dWeights: masterOf(target), accumulate };
      shortConvolutionBackward(operands, gradients);
    });
    return { x: dx.tensor };
  },
});
