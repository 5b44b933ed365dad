import { implementFused } from '../../fused.ts';
import { SINGLE_PRECISION } from '../../ops/singlePrecision.ts';
import type { DeviceArray } from '../device.ts';
import { narrow, widen } from '../flatArithmetic.ts';

/** Activations are bf16 where it is asked for. */
type Halves = DeviceArray<'bf16'>;

implementFused('cuda', SINGLE_PRECISION, {
  forward({ input, shape, outputFloats }) {
    const y = outputFloats(shape('x'));
    widen(y.values, input('x') as Halves);
    return y.info;
  },
  backward({ floatsOf, tensor }, [dy]) {
    const dx = tensor(dy!.shape);
    narrow(dx.values as Halves, floatsOf(dy!));
    return { x: dx.tensor };
  },
});
