import { invariant } from '@sluice/core';
import type { Floats } from '../../floats.ts';
import { implementFused } from '../../fused.ts';
import { CACHED_ATTENTION, CAPPED_CACHED_ATTENTION } from '../../ops/cachedAttention.ts';
import { cachedAttention, takesCachedHeads } from '../cachedAttention.ts';
import { type CudaDevice, DeviceArray } from '../device.ts';
import { refuse } from './operands.ts';

/** Calls `use` with rows where the device reads them. Those of the host are there for the call alone. */
function withRows(device: CudaDevice, rows: Floats, use: (rows: DeviceArray<'f32'>) => void): void {
  const onDevice = rows instanceof DeviceArray ? rows : device.upload(rows as Float32Array, 'f32');
  use(onDevice);
  if (onDevice !== rows) device.free(onDevice);
}

for (const operations of [CACHED_ATTENTION, CAPPED_CACHED_ATTENTION]) {
  for (const operation of Object.values(operations)) {
    implementFused('cuda', operation, {
      forward({ input, output, recording, attributes: { keys, values, tokens, layout } }) {
        invariant(!recording, 'attention to cached keys has no gradient');
        const { sequence, heads, headDim } = layout;
        if (!takesCachedHeads(headDim)) refuse('attention to a cache', `heads have ${headDim} channels`);
        const q = input('q');
        const gate = layout.gate === 'none' ? undefined : input('gate');
        const y = output([sequence, heads * headDim]);
        withRows(q.device, keys, (keys) =>
          withRows(q.device, values, (values) =>
            cachedAttention({ q, keys, values, tokens, gate }, y.values, layout),
          ),
        );
        return y.info;
      },
      backward() {
        throw new Error('Attention to cached keys has no gradient.');
      },
    });
  }
}
