/** The program that this one starts again, as a process of its own or on another host. */

import { fileURLToPath } from 'node:url';

/** Path of `sluice`, for Node.js. */
export const PROGRAM = fileURLToPath(new URL('../bin/sluice.js', import.meta.url));
