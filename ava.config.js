export default {
  // Hosts need root, and are tested by `npm run test:hosts`.
  files: ['test/**/*.test.ts', '!test/hosts/**'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  // Native addons and child workers behave better in processes than in threads.
  workerThreads: false,
  concurrency: 2,
  timeout: '5m',
  require: ['./test/support/reproducible.ts'],
};
