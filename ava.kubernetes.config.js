import all from './ava.config.js';

/** `npm run test:kubernetes -- --cluster`. */
export default { ...all, files: ['test/kubernetes/**/*.test.ts'], concurrency: 1, serial: true };
