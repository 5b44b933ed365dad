/** Asks the CUDA driver for its GPUs, in a process of its own: `gpuEntry.js LIBRARY` prints them as one line of JSON. */

import { cudaDevices } from '@sluice/engine/cuda/devices';

process.stdout.write(`${JSON.stringify(cudaDevices(process.argv[2]!))}\n`);
