import { implementFused } from '../../fused.ts';
import { GATE_HEADS } from '../../ops/gateHeads.ts';
import { gateHeads, gateHeadsBackward } from '../gateHeads.ts';

implementFused('cuda', GATE_HEADS, {
  forward({ input, shape, output, attributes: { gate } }) {
    const out = output(shape('y'));
    gateHeads(input('y'), input('logits'), out.values, gate);
    return out.info;
  },
  backward({ valuesOf, over, attributes: { gate } }, [dOut], [y, logits]) {
    const operands = { y: valuesOf(y!), logits: valuesOf(logits!), dOut: valuesOf(dOut!) };
    const [dy, dLogits] = [over(dOut!), over(logits!)];
    gateHeadsBackward(operands, { dy: dy.values, dLogits: dLogits.values }, gate);
    return { y: dy.tensor, logits: dLogits.tensor };
  },
});
