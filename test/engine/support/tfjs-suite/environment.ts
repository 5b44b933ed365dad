/**
 * Jasmine, set up before the suite is loaded. At the end it prints one line of JSON: a `SuiteResult`.
 */

import '@sluice/engine';
import '@tensorflow/tfjs-backend-cpu';
import { setTestEnvs } from '@tensorflow/tfjs-core/dist/jasmine_util.js';
import jasmineRequire from 'jasmine-core/lib/jasmine-core/jasmine.js';
import boot from 'jasmine-core/lib/jasmine-core/node_boot.js';

export interface SuiteResult {
  readonly passed: string[];
  /** Those that the suite itself leaves out. */
  readonly skipped: string[];
  readonly failed: { readonly name: string; readonly messages: string[] }[];
}

interface SpecResult {
  readonly status: string;
  readonly fullName: string;
  readonly failedExpectations: readonly { readonly message: string }[];
}

const backend = process.argv[2]!;
const result: SuiteResult = { passed: [], skipped: [], failed: [] };

function note({ status, fullName, failedExpectations }: SpecResult): void {
  const name = fullName.replaceAll(` ${backend} {}`, '');
  const messages = failedExpectations.map(({ message }) => message);
  if (status === 'failed' || messages.length > 0) result.failed.push({ name, messages });
  else (status === 'passed' ? result.passed : result.skipped).push(name);
}

/** For failures outside of specs, as in `beforeAll`. */
function noteFailure(summary: SpecResult): void {
  if (summary.failedExpectations.length > 0) note(summary);
}

export const environment = boot(jasmineRequire).getEnv();
environment.configure({ random: false });
environment.addReporter({
  specDone: note,
  suiteDone: noteFailure,
  jasmineDone: (summary: SpecResult) => {
    noteFailure({ ...summary, fullName: 'the whole suite' });
    process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit());
  },
});
setTestEnvs([{ name: backend, backendName: backend, isDataSync: true }]);
