import { implementFused } from '../../fused.ts';
import { ROTARY_EMBEDDING } from '../../ops/rotaryEmbedding.ts';
import { rotaryEmbedding } from '../operations.ts';
import { rotationOf } from './operands.ts';

implementFused('cuda', ROTARY_EMBEDDING, {
  forward({ input, shape, output, attributes: { table, layout } }) {
    const x = input('x');
    const y = output(shape('x'));
    const rotation = rotationOf(x.device, table, layout);
    rotaryEmbedding({ x, ...rotation, headDim: layout.headDim }, y.values);
    return y.info;
  },
  backward({ valuesOf, over, attributes: { table, layout } }, [dy]) {
    const x = valuesOf(dy!);
    const dx = over(dy!);
    const rotation = rotationOf(x.device, table, layout);
    rotaryEmbedding({ x, ...rotation, headDim: layout.headDim, back: true }, dx.values);
    return { x: dx.tensor };
  },
});
