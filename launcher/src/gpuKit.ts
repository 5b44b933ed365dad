/** Entry of the GPU kit, `npm run gpu`; and of each of its steps, which it starts as a process of its own. */

import { kitMain } from './gpuKit/main.ts';

process.exitCode = await kitMain(process.argv.slice(2));
