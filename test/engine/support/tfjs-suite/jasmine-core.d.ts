/** The little of Jasmine 3 that is used here; it brings no types of its own. */

interface JasmineEnvironment {
  configure(configuration: { random: boolean }): void;
  addReporter(reporter: Record<'specDone' | 'suiteDone' | 'jasmineDone', (result: never) => void>): void;
  execute(): void;
}

declare module 'jasmine-core/lib/jasmine-core/jasmine.js' {
  const jasmineRequire: object;
  export default jasmineRequire;
}

declare module 'jasmine-core/lib/jasmine-core/node_boot.js' {
  export default function boot(jasmineRequire: object): { getEnv(): JasmineEnvironment };
}
