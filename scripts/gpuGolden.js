/**
 * `npm run gpu:golden`: after a change that means other bits, makes those of now the ones that cards are held against: of every kernel,
 * as the emulator computes it with the tensor cores of Ampere and with those of Hopper (`packages/engine/cuda/golden.json`).
 */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, setup } from './steps.js';
import { scriptWords } from './words.js';

scriptWords(import.meta.url);
process.env.SLUICE_CUDA = 'emulated-hopper';
process.env.SLUICE_CUDA_WATCH = 'off';
setup();
const { selectBackend } = await import(join(root, 'packages/engine/dist/index.js'));
const cuda = await import(join(root, 'packages/engine/dist/cuda/index.js'));

await selectBackend('cuda');
const { device } = cuda.cudaBackend();
// The settings are those of the whole process.
const emulator = new cuda.Emulator({ watch: false });
const byKind = Object.fromEntries(
  cuda.TENSOR_CORES.map((arithmetic) => {
    emulator.set({ arithmetic });
    return [arithmetic, Object.keys(cuda.CHECKS).map((name) => cuda.runCheck(device, name))];
  }),
);
const tooFar = byKind.hopper.flatMap(({ name, errors }) =>
  Object.entries(errors).flatMap(([output, error]) =>
    error < 1 ? [] : [`${name}: ${output} is ${error} times as far from double precision as it may be`],
  ),
);
if (tooFar.length > 0) throw new Error(tooFar.join('\n'));
writeFileSync(cuda.goldenFile, `${JSON.stringify(cuda.joinGolden(byKind), null, 2)}\n`);
process.stdout.write(`${byKind.hopper.length} cases\n`);
