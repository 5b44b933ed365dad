/** The program of the kit, which starts itself again for each step, and for the cases of one. */

import { fileURLToPath } from 'node:url';

export const KIT_PROGRAM = fileURLToPath(new URL('../gpuKit.js', import.meta.url));
