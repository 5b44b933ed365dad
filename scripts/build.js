/** `npm run build`: the C++ core, the TypeScript, and the bundle of it that is run. */

import { build } from './steps.js';
import { scriptWords } from './words.js';

scriptWords(import.meta.url);
build();
