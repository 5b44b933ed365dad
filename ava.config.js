export default {
  // What needs root and daemons: `npm run test:hosts`, `npm run test:kubernetes -- --cluster`.
  files: ['test/**/*.test.ts', '!test/hosts/**', '!test/kubernetes/**'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  // Native addons and child workers behave better in processes than in threads.
  workerThreads: false,
  concurrency: 2,
  timeout: '5m',
  require: ['./test/support/reproducible.ts'],
};
