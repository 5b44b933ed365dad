/** TensorFlow.js's plain kernels as a backend whose flat memory is, as a GPU's, none that a host can reach into. */

import {
  adamW,
  addRounded,
  BACKENDS,
  type Backend,
  type FlatMemory,
  registerFlatMemory,
  squaredNorms,
  sumInto,
} from '@sluice/engine';
import * as tf from '@tensorflow/tfjs';
import { MathBackendCPU } from '@tensorflow/tfjs-backend-cpu';

export const APART = 'apart';

class ApartFloats {
  readonly #values: Float32Array;

  constructor(values: Float32Array) {
    this.#values = values;
  }

  get length(): number {
    return this.#values.length;
  }

  subarray(begin: number, end?: number): ApartFloats {
    return new ApartFloats(this.#values.subarray(begin, end));
  }

  static valuesOf(apart: ApartFloats): Float32Array {
    return apart.#values;
  }
}

const { valuesOf } = ApartFloats;

const apartMemory: FlatMemory<ApartFloats> = {
  make: (length) => new ApartFloats(new Float32Array(length)),
  makeShared: (length) => new ApartFloats(new Float32Array(length)),
  join(first, second) {
    const { buffer, byteOffset } = valuesOf(first);
    return new ApartFloats(new Float32Array(buffer, byteOffset, first.length + second.length));
  },
  read: (values) => valuesOf(values).slice(),
  readInto: (values, target) => target.set(valuesOf(values)),
  write: (target, values) => valuesOf(target).set(values),
  fill: (target, value) => valuesOf(target).fill(value),
  copy: (target, source) => valuesOf(target).set(valuesOf(source)),
  release() {},
  add: (target, source) => sumInto(valuesOf(target), valuesOf(source)),
  addRounded: (target, source) => addRounded(valuesOf(target), valuesOf(source)),
  squaredNorms: (ranges) => ranges.map((values) => squaredNorms(valuesOf(values))),
  adamW(updates) {
    for (const { buffers, settings, sums } of updates) {
      const { parameters, gradients, firstMoment, secondMoment } = buffers;
      const values = {
        parameters: valuesOf(parameters),
        gradients: valuesOf(gradients),
        firstMoment: valuesOf(firstMoment),
        secondMoment: valuesOf(secondMoment),
      };
      adamW(values, settings, sums);
    }
  },
  tensor: (values, shape) => tf.tensor(valuesOf(values).slice(), [...shape], 'float32'),
};

/** Makes the backend one that `selectBackend` finds. */
export function registerApartBackend(): void {
  const backend: Backend = {
    ...BACKENDS.cpu,
    async load() {
      for (const kernel of tf.getKernelsForBackend('cpu'))
        tf.registerKernel({ ...kernel, backendName: APART });
      tf.registerBackend(APART, () => new MathBackendCPU());
      registerFlatMemory(APART, apartMemory);
    },
  };
  Object.assign(BACKENDS, { [APART]: backend });
}
