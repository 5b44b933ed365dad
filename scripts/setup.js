/** Installs and builds: `node scripts/setup.js`. A second call skips what is done. */

import { setup } from './steps.js';

setup();
