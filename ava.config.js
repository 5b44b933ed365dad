import { bundleTests } from './scripts/bundleTests.js';

export default {
  // What needs root and daemons: `npm run test:hosts`, `npm run test:kubernetes -- --cluster`.
  files: ['test/**/*.test.ts', '!test/hosts/**', '!test/kubernetes/**'],
  // Loaded from the bundle by what is required first.
  extensions: { ts: 'commonjs' },
  require: [['./test/support/bundledTest.cjs', await bundleTests()]],
  // Native addons and child workers behave better in processes than in threads.
  workerThreads: false,
  // Where two cores run files with processes of their own, some wait for each other at any time.
  concurrency: 3,
  // Several files run at once, and some use more threads than there are cores: to wait for each other spinning is to work in vain.
  environmentVariables: { OMP_WAIT_POLICY: 'passive' },
  // For what hangs: longer than any test takes on a busy machine, and than a virtual machine stands still while it is moved.
  timeout: '15m',
};
