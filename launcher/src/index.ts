export { COMMANDS } from './commands/index.ts';
export { main } from './main.ts';
