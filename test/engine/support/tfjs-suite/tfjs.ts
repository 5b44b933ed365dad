/** What `@tensorflow/tfjs` is within the bundle: the core from the same files as its tests, with gradients and methods. */

import '@tensorflow/tfjs-core/dist/public/chained_ops/register_all_chained_ops.js';
import '@tensorflow/tfjs-core/dist/register_all_gradients.js';

export * from '@tensorflow/tfjs-core';
