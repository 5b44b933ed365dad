/** `sluice backend list`: the backends, and which of them run here. */

import { defineCommand } from '../cli/command.ts';

export const backendListCommand = defineCommand<object>({
  name: 'backend list',
  describe: 'List the TensorFlow.js backends, which of them run on this machine, and why not the others.',
  positionals: {},
  options: {},
  examples: [['sluice backend list', 'Try each that is installed.']],
  async run() {
    const { probeBackends } = await import('../backends/probe.ts');
    const { terminalTable } = await import('@sluice/observe');
    const backends = await probeBackends();
    const rows = backends.map(({ name, purpose, runs, reason }) => [
      name,
      runs ? 'runs' : 'no',
      purpose,
      reason ?? '',
    ]);
    const header = ['backend', 'here', 'for', 'remark'];
    return {
      json: { backends },
      text: terminalTable(rows, { header, align: ['left', 'left', 'left', 'left'] }),
    };
  },
});
