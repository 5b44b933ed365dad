export { ClaimsConfig } from './claims/config.ts';
export { COMMANDS } from './commands/index.ts';
export { ExperimentConfig } from './experiment/config.ts';
export { main } from './main.ts';
