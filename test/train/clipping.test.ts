import { PARAMETER_GROUPS } from '@sluice/model';
import { OptimizerConfig } from '@sluice/train';
import test from 'ava';
import { Clipping } from '../../packages/train/src/optimizer/clipping.ts';

const clippingOf = (settings: object) =>
  new Clipping(OptimizerConfig.parse({ learningRate: 1, ...settings }));

const norms = (gradientNorm: number, groupNorms = {}) => ({ gradientNorm, groupNorms });

test('by default the whole gradient is scaled to the largest norm, in all groups alike', (t) => {
  const clipping = clippingOf({ clipNorm: 2 });
  const scales = clipping.scales(norms(5, { norms: 0.1, experts: 4.9 }));
  t.deepEqual(Object.keys(scales), [...PARAMETER_GROUPS]);
  t.true(Object.values(scales).every((scale) => scale === 2 / (5 + 1e-6)));
  t.is(clipping.scales(norms(2)).attention, 1);
  t.is(clippingOf({ clipNorm: 0 }).scales(norms(1e9)).attention, 1);
  t.is(clipping.state, undefined);
});

test('by groups, each is scaled by its own norm', (t) => {
  const scales = clippingOf({ clip: 'groups', clipNorm: 2 }).scales(norms(9, { attention: 8, norms: 1 }));
  t.is(scales.attention, 2 / (8 + 1e-6));
  t.is(scales.norms, 1);
  t.is(scales.gate, 1);
});

/** The limits of ZClip, as its paper has them. */
function zclip(values: readonly number[], decay: number, warmup: number, threshold: number): number[] {
  const first = values.slice(0, warmup);
  let mean = first.reduce((a, b) => a + b) / warmup;
  let variance = first.reduce((sum, value) => sum + (value - mean) ** 2, 0) / warmup;
  const clipped = values.slice(warmup).map((value) => {
    const z = (value - mean) / (Math.sqrt(variance) + 1e-6);
    const kept = z > threshold ? mean + (threshold ** 2 * Math.sqrt(variance)) / z : value;
    mean = decay * mean + (1 - decay) * kept;
    variance = decay * variance + (1 - decay) * (kept - mean) ** 2;
    return kept;
  });
  return [...first, ...clipped];
}

const NORMS = Array.from(
  { length: 60 },
  (_, i) => 1 + 0.1 * Math.sin(7 * i) + ([31, 32, 50].includes(i) ? 4 : 0),
);
const ADAPTIVE = {
  clip: 'adaptive',
  clipNorm: 0,
  adaptiveClip: { decay: 0.9, warmupSteps: 10, threshold: 2 },
};

test('the adaptive limit is that of ZClip: outliers come down to below the threshold, and few of them raise it', (t) => {
  const clipping = clippingOf(ADAPTIVE);
  const kept = NORMS.map((norm) => norm * clipping.scales(norms(norm)).head);
  const expected = zclip(NORMS, 0.9, 10, 2);
  for (const [i, norm] of kept.entries()) t.true(Math.abs(norm - expected[i]!) < 1e-5, `step ${i}`);
  t.true(kept[31]! < 1.3 && kept[50]! < 1.3);
  t.is(kept[20], NORMS[20]);
});

test('the fixed limit holds beside the adaptive one, in the warm-up too', (t) => {
  const clipping = clippingOf({ ...ADAPTIVE, clipNorm: 1 });
  for (const norm of NORMS) t.true(norm * clipping.scales(norms(norm)).head <= 1);
});

test('what is remembered can be saved and restored after any step', (t) => {
  const whole = clippingOf(ADAPTIVE);
  const scales = NORMS.map((norm) => whole.scales(norms(norm)));
  for (const at of [4, 10, 33]) {
    const first = clippingOf(ADAPTIVE);
    for (const norm of NORMS.slice(0, at)) first.scales(norms(norm));
    const second = clippingOf(ADAPTIVE);
    second.restore(JSON.parse(JSON.stringify(first.state)));
    t.deepEqual(
      NORMS.slice(at).map((norm) => second.scales(norms(norm))),
      scales.slice(at),
    );
  }
});
