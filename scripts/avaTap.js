/**
 * ava with its TAP reporter, for `.ci/run`: `node scripts/avaTap.js [ARGUMENT…]`.
 * In place of naming what failed, the reporter of ava 7.0.0 throws where a file exits or nothing is heard for long while tests are
 * pending, and at errors that escape a test without a line of JavaScript in their stack, as those of libraries in C++ are. Here it
 * gets what it can show.
 */

import TapReporter from '../node_modules/ava/lib/reporters/tap.js';

/** An error with nothing but texts. Assertions that failed are such already. */
function showable(error) {
  if (!error || error.type === 'ava' || error.type === 'unknown') return error;
  const [name, message] = [error.name ?? 'Error', error.message].map((text) => `${text}`);
  const stack = /\n/.test(error.stack)
    ? `${error.stack}`
    : `${name}: ${message}\n    at no line of JavaScript`;
  const originalError = Object.assign(new Error(message), { stack });
  return { type: 'native', name, message, stack, originalError };
}

for (const method of ['writeTest', 'writeCrash']) {
  const write = TapReporter.prototype[method];
  TapReporter.prototype[method] = function writeShowable(event, how) {
    write.call(this, { ...event, err: showable(event.err) }, how);
  };
}

process.argv.push('--tap');
await import('../node_modules/ava/entrypoints/cli.mjs');
