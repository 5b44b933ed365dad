/**
 * `npm start`: installs, builds, and trains the quickstart model; goes on with it when it was stopped.
 * `npm start -- runs/another --until-step 100`: in another directory, with flags of `sluice train`.
 */

import { setup } from './steps.js';

setup();
// It imports what setup has built.
await import('./quickstart.js');
