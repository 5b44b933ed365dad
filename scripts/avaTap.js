/**
 * ava with its TAP reporter, for `.ci/run`: `node scripts/avaTap.js [ARGUMENT…]`.
 * Where a file exits, or nothing is heard for long, while tests are pending, the reporter of ava 7.0.0 throws in place of naming them,
 * since their error has none of what it shows of others. Here it gets that, so a failed run says what failed.
 */

import TapReporter from '../node_modules/ava/lib/reporters/tap.js';

const { writeTest } = TapReporter.prototype;

TapReporter.prototype.writeTest = function writeNamedTest(event, flags) {
  const { err: error } = event;
  const err = error instanceof Error ? { name: error.name, stack: error.stack, originalError: error } : error;
  writeTest.call(this, { ...event, err }, flags);
};

process.argv.push('--tap');
await import('../node_modules/ava/entrypoints/cli.mjs');
