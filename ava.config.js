import { bundleTests } from './scripts/bundleTests.js';

export default {
  // Hosts need root, and are tested by `npm run test:hosts`.
  files: ['test/**/*.test.ts', '!test/hosts/**'],
  // Loaded from the bundle by what is required first.
  extensions: { ts: 'commonjs' },
  require: [['./test/support/bundledTest.cjs', await bundleTests()]],
  // Native addons and child workers behave better in processes than in threads.
  workerThreads: false,
  concurrency: 2,
  timeout: '5m',
};
