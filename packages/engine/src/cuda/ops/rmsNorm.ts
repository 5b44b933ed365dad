import { implementFused } from '../../fused.ts';
import { RMS_NORM } from '../../ops/rmsNorm.ts';
import { rmsNorm, rmsNormBackward } from '../operations.ts';
import { masterOf } from '../weights.ts';

implementFused('cuda', RMS_NORM, {
  forward({ input, shape, output, saved, attributes: { weight, epsilon } }) {
    const [rows, width] = shape('x') as [number, number];
    const y = output([rows, width]);
    rmsNorm(input('x'), masterOf(weight), y.values, saved.floats('inverse', rows), epsilon);
    return y.info;
  },
  backward({ valuesOf, over, saved, attributes: { weight } }, [dyTensor], [xTensor]) {
    const [x, dy] = [valuesOf(xTensor!), valuesOf(dyTensor!)];
    const dx = over(dyTensor!);
    const given = { x, gain: masterOf(weight), dy, inverse: saved.floats('inverse') };
    if (!weight.sink) rmsNormBackward(given, { dx: dx.values, dGain: null, accumulate: false });
    else {
      weight.contribute((target) => {
        const { accumulate } = target;
        rmsNormBackward(given, { dx: dx.values, dGain: masterOf(target), accumulate });
      });
    }
    return { x: dx.tensor };
  },
});
