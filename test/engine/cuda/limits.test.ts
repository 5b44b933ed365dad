/** What a launch may have at most. */

import {
  type Argument,
  type DeviceArray,
  deltaRule,
  type Grid,
  integersOf,
  type Kernel,
  type KernelSource,
} from '@sluice/engine/cuda';
import test from 'ava';
import { device, emulator } from '../support/cuda.ts';

const MOST = 65_535;

test.afterEach.always(() => emulator.set({}));

test.serial(
  'more blocks than a grid has are refused by the kernel’s name, before the driver is asked',
  (t) => {
    const x = device.allocate(4, 'f32');
    const scale = device.kernel('flat', 'scale');
    emulator.set({ runsKernels: false });
    scale.launch([2 ** 31 - 1, MOST, MOST], 0, x, 4, 1);
    for (const grid of [[2 ** 31], [1, MOST + 1], [1, 1, MOST + 1]] as const)
      t.throws(() => scale.launch(grid, 0, x, 4, 1), {
        code: 'SLUICE_E_CUDA_KERNEL',
        message: new RegExp(
          `scale would take ${grid.join(' × ')}.* blocks, and a GPU has 2147483647 × 65535 × 65535`,
        ),
      });
    device.free(x);
  },
);

test.serial('a number that a kernel does not count to is refused, and not cut', (t) => {
  const x = device.allocate(4, 'f32');
  const refused = { code: 'SLUICE_E_CUDA_KERNEL' };
  emulator.set({ runsKernels: false });
  const [sumRows, scale] = [device.kernel('flat', 'sumRows'), device.kernel('flat', 'scale')];
  sumRows.launch([1], 0, x, x, 2 ** 31 - 1, 4, 0);
  t.throws(() => sumRows.launch([1], 0, x, x, 2 ** 31, 4, 0), {
    ...refused,
    message: /argument 2 of sumRows is 2147483648, and kernels count to 2147483647/,
  });
  // Of lengths there are 64 bits.
  scale.launch([1], 0, x, 2 ** 40, 1);
  t.throws(() => scale.launch([1], 0, x, -1, 1), { message: /argument 1 of scale/ });
  t.deepEqual([...integersOf([0, -1, 2 ** 31 - 1])], [0, -1, 2 ** 31 - 1]);
  t.throws(() => integersOf([1, 2 ** 31]), {
    ...refused,
    message: /count to 2147483647, and not to 2147483648/,
  });
  device.free(x);
});

test.serial(
  'as many documents as there are go through a recurrence, in turns of what a grid has room for',
  (t) => {
    const documents = MOST + 2;
    const layout = {
      ...{ batch: 1, sequence: documents, heads: 1, keyDim: 1, valueDim: 1, decays: 1 },
      documents: Int32Array.from({ length: documents }, (_, i) => i),
    };
    const operand = device.allocate(documents, 'f32');
    const launches: { grid: Grid; documents: DeviceArray }[] = [];
    const kernelOf = device.kernelOf.bind(device);
    device.kernelOf = (source: KernelSource, name: string) => {
      const kernel = kernelOf(source, name);
      const launch = (grid: Grid, sharedBytes: number, ...args: Argument[]) => {
        launches.push({ grid, documents: args.at(-2) as DeviceArray });
        kernel.launch(grid, sharedBytes, ...args);
      };
      return { launch } as Kernel;
    };
    emulator.set({ runsKernels: false });
    try {
      const operands = { q: operand, k: operand, v: operand, beta: operand, g: operand };
      deltaRule(operands, device.allocate(documents, 'f32'), layout);
    } finally {
      device.kernelOf = kernelOf;
    }
    t.deepEqual(
      launches.map(({ grid }) => grid),
      [
        [1, 1, MOST],
        [1, 1, 2],
      ],
    );
    const [first, second] = launches.map((launch) => launch.documents);
    // Of each document there are three numbers, and of the one that follows the last.
    t.is(second!.address - first!.address, 3 * 4 * MOST);
    t.is(second!.length, 3 * 3);
  },
);
