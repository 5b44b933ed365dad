/**
 * In which precision passes read each parameter on `cuda`: what a model says is read rounded alone is kept so, and nothing that is kept in
 * single precision is rounded, which would take memory besides. No kernel runs for that.
 */

import { computeGradients, flatMemory, Parameter, selectBackend, withReads } from '@sluice/engine';
import { Decoder, type ForwardObserver, modelParameters } from '@sluice/model';
import test from 'ava';
import { emulator } from '../engine/support/cuda.ts';
import { tinyModel, tokens } from './support.ts';
import { DEVICE_VARIANTS } from './variantModels.ts';

process.env.SLUICE_CUDA = 'emulated';
process.env.SLUICE_CUDA_WATCH = 'off';

const TOKENS = 12;

test.before(async () => {
  await selectBackend('cuda', 'bf16');
  emulator.set({ runsKernels: false });
});

/** Wants to know everything. */
const observer = Object.fromEntries(
  [
    ...['largestLogits', 'attention', 'attentionOutput', 'gatedAttentionOutput', 'gate', 'gateNorms'],
    ...['recurrence', 'feedForwardOutput', 'router', 'layerOutput'],
  ].map((moment) => [moment, () => {}]),
) as ForwardObserver;

for (const [name, keys] of Object.entries(DEVICE_VARIANTS)) {
  test.serial(`${name}: each parameter is read in the precision that it is kept in`, async (t) => {
    const model = tinyModel(keys);
    const specs = modelParameters(model);
    const rounded = flatMemory().rounded!()!;
    const copied: string[] = [];
    const parameters = specs.map(({ name, shape, size, readIn }) => {
      const values = readIn === 'activations' ? rounded.make(size) : flatMemory().make(size);
      const parameter = new Parameter(name, shape, values);
      // Whoever makes something of the values gives it back with them.
      parameter.whenReleased = () => copied.push(name);
      return parameter;
    });
    const decoder = new Decoder(model, new Map(parameters.map((parameter) => [parameter.name, parameter])));
    const [inputs, targets] = [tokens(TOKENS), tokens(TOKENS, 2)];
    const batch = { inputs, targets, sequences: 1, totalTokens: TOKENS, expertLoads: [] };
    computeGradients(() => decoder.loss(batch));
    await withReads(() => decoder.observe(batch, observer));
    decoder.nextTokenLogits(inputs);
    t.deepEqual(copied, []);
    const isMatrix = ({ shape, group }: (typeof specs)[number]) =>
      group !== 'router' && shape.length > 1 && shape.every((width) => width % 8 === 0);
    for (const spec of specs.filter(isMatrix)) t.is(spec.readIn, 'activations', spec.name);
    for (const parameter of parameters) parameter.release();
  });
}
