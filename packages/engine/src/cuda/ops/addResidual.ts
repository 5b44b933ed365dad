import { implementFused } from '../../fused.ts';
import { ADD_RESIDUAL } from '../../ops/addResidual.ts';
import { addResidual } from '../operations.ts';

implementFused('cuda', ADD_RESIDUAL, {
  forward({ input, output, outputOver, shape }) {
    const [x, y] = [input('x'), input('y')];
    const sum = x === y ? output(shape('x')) : outputOver('y');
    addResidual(x, y, sum.values);
    return sum.info;
  },
  backward({ share }, [dy]) {
    return { x: share(dy!), y: share(dy!) };
  },
});
