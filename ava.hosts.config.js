import all from './ava.config.js';

/** `npm run test:hosts`: each file makes hosts of its own, and what is timed there should have the machine's cores. */
export default { ...all, files: ['test/hosts/**/*.test.ts'], concurrency: 1, serial: true };
