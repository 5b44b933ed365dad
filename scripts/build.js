/** `npm run build`: the C++ core, then the TypeScript. Both skip what is up to date. */

import { build } from './steps.js';

build();
