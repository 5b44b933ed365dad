/** A model of a fixture with places for the gradients of its logical tensors. */

import { HuggingFaceDirectory } from '@sluice/checkpoint/huggingface';
import { Parameter } from '@sluice/engine';
import { Decoder, modelParameters } from '@sluice/model';
import { fixture } from '../../fixtures/huggingface/fixtures.ts';

export async function trainable(name: string) {
  const directory = await HuggingFaceDirectory.open(fixture(name));
  const { model, layout } = directory;
  const parameters = new Map<string, Parameter>();
  const gradients = new Map<string, Float32Array>();
  for (const spec of modelParameters(model)) {
    const values = new Float32Array(spec.size);
    const gradient = new Float32Array(spec.size);
    for (const { name: tensor, offset, size } of spec.tensors) {
      await directory.read(tensor, values.subarray(offset, offset + size));
      gradients.set(tensor, gradient.subarray(offset, offset + size));
    }
    const parameter = new Parameter(spec.name, spec.shape, values);
    let accumulate = false;
    parameter.sink = () => {
      const target = { values: gradient, accumulate };
      accumulate = true;
      return target;
    };
    parameters.set(spec.name, parameter);
  }
  await directory.close();
  // The balance loss of `transformers` is another one; the fixtures are of the cross-entropy alone.
  const config = model.experts
    ? { ...model, experts: { ...model.experts, balanceCoefficient: 0, zCoefficient: 0 } }
    : model;
  return { decoder: new Decoder(config, parameters), gradients, model, layout };
}
