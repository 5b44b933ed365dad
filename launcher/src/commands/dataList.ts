/** `sluice data list`: the corpora that were prepared. */

import { defineCommand } from '../cli/command.ts';

export const dataListCommand = defineCommand<object>({
  name: 'data list',
  describe: 'List the prepared corpora.',
  positionals: {},
  options: {},
  examples: [['sluice data list', 'Name, size and place of each.']],
  async run() {
    const { listPrepared } = await import('@sluice/data');
    const { formatCount, formatLoss, terminalTable } = await import('@sluice/observe');
    const { dataRoots } = await import('../run/dataRoot.ts');
    const entries = listPrepared(dataRoots().outputRoot);
    const rows = entries.map((entry) =>
      'problem' in entry
        ? [entry.name, 'damaged', '', '', '', `${entry.directory}: ${entry.problem.message}`]
        : [
            entry.name,
            formatCount(entry.documents),
            formatCount(entry.trainTokens),
            formatCount(entry.vocabularySize),
            entry.unigramLoss === null ? '-' : formatLoss(entry.unigramLoss),
            entry.directory,
          ],
    );
    const header = ['name', 'documents', 'train tokens', 'vocabulary', 'unigram loss', 'directory'];
    const align = ['left', 'right', 'right', 'right', 'right', 'left'] as const;
    return {
      json: { corpora: entries },
      text:
        rows.length === 0
          ? 'No corpus was prepared yet: see sluice data prepare --help.'
          : terminalTable(rows, { header, align: [...align] }),
    };
  },
});
