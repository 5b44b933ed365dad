/** `sluice watch`: a live page of runs. */

import { defineCommand } from '../cli/command.ts';
import { wholeNumber } from '../cli/options.ts';

interface WatchArguments {
  readonly runs?: string[];
  readonly port?: number;
  readonly host: string;
  readonly tokenFile?: string;
  readonly once?: boolean;
  readonly tui?: boolean;
}

export const watchCommand = defineCommand<WatchArguments>({
  name: 'watch',
  describe:
    'Show runs on a page that moves as they do: going on, finished or failed, of this machine or others.',
  positionals: {
    runs: {
      type: 'string',
      array: true,
      describe: 'Runs, or folders with runs and experiments; runs/ and experiments/ when left out.',
    },
  },
  options: {
    port: {
      type: 'number',
      requiresArg: true,
      coerce: wholeNumber('port', 0, 65_535),
      describe: 'Port of the page, 0 for a free one; 7007 when left out, or a free one where that is taken.',
    },
    host: {
      type: 'string',
      default: '127.0.0.1',
      requiresArg: true,
      describe:
        'Address to listen at. Beyond this machine, visitors need the token that is in the printed address.',
    },
    'token-file': {
      type: 'string',
      requiresArg: true,
      describe: 'File with the token that visitors need; SLUICE_WATCH_TOKEN does the same.',
    },
    once: { type: 'boolean', describe: 'Print how it is with the runs, and end.' },
    tui: { type: 'boolean', describe: 'Show one run in the terminal in place of a page; q ends it.' },
  },
  examples: [
    ['sluice watch', 'All runs and experiments that are here.'],
    ['sluice watch runs/quickstart --port 8080', 'One run, at http://localhost:8080/.'],
    ['sluice watch /shared/runs --host 0.0.0.0', 'For other machines: the printed address holds the token.'],
    ['sluice watch runs/quickstart --tui', 'In the terminal, over ssh too.'],
    ['sluice watch --once --json', 'The same list for a script.'],
  ],
  async run({ runs = [], once = false, tui = false, ...options }, { log }) {
    const { listOnce, usualPlaces, watch } = await import('../watch/watch.ts');
    const places = runs.length > 0 ? runs : usualPlaces();
    if (tui) return (await import('../watch/terminal.ts')).watchInTerminal(places, once);
    return once ? listOnce(places) : watch({ places, ...options }, log);
  },
});
