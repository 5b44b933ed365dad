import { implementFused } from '../../fused.ts';
import { EMBEDDING } from '../../ops/embedding.ts';
import { fill } from '../flatArithmetic.ts';
import { embedding, embeddingBackward, embeddingTokens, tokenIds } from '../operations.ts';
import { masterOf, weightsOf } from '../weights.ts';

implementFused('cuda', EMBEDDING, {
  forward({ output, attributes: { ids, weight } }) {
    const [vocabulary, width] = weight.shape as [number, number];
    const y = output([ids.length, width]);
    const { device } = y.values;
    const onDevice = tokenIds(device, ids, vocabulary);
    embedding({ ids: onDevice }, weightsOf(weight), y.values, width);
    device.free(onDevice);
    return y.info;
  },
  backward({ valuesOf, attributes: { ids, weight } }, [dyTensor]) {
    const [vocabulary, width] = weight.shape as [number, number];
    const dy = valuesOf(dyTensor!);
    const tokens = embeddingTokens(dy.device, ids, vocabulary);
    weight.contribute((target) => {
      const dTable = masterOf(target);
      if (!target.accumulate) fill(dTable, 0);
      embeddingBackward(tokens, dy, dTable, width);
    });
    for (const array of Object.values(tokens)) dy.device.free(array);
    return {};
  },
});
