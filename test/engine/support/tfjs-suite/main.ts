/** TensorFlow.js's own test suite on the backend that is named on the command line. Bundled, and run as a process. */

import { environment } from './environment.ts';
import '@tensorflow/tfjs-core/dist/tests.js';
import { BACKENDS } from '@sluice/engine';

const backend = process.argv[2]!;
const loaded = backend === 'cuda' ? BACKENDS.cuda.load() : Promise.resolve();
loaded.then(() => environment.execute());
