/** `sluice data prepare`: makes token shards from the sources of a recipe. */

import { defineCommand } from '../cli/command.ts';
import { configFile } from '../cli/options.ts';

interface DataPrepareArguments {
  readonly recipe: string;
  readonly force?: boolean;
}

export const dataPrepareCommand = defineCommand<DataPrepareArguments>({
  name: 'data prepare',
  describe: 'Prepare a corpus: fetch or read its sources, train or load the tokenizer, write token shards.',
  positionals: {
    recipe: { type: 'string', demandOption: true, coerce: configFile, describe: 'Data recipe (YAML).' },
  },
  options: {
    force: { type: 'boolean', describe: 'Prepare anew what is prepared already.' },
  },
  examples: [
    ['sluice data prepare data/recipes/english-small.yaml', 'Prepare the corpus of the quickstart.'],
  ],
  async run({ recipe, force }, { log }) {
    const { refuseOtherKind } = await import('../run/fileKind.ts');
    refuseOtherKind(recipe, 'recipe');
    const { datasetLine, prepareDataset, sourceLines } = await import('../coordinator/dataset.ts');
    const summary = await prepareDataset(recipe, log, { logSources: false, changedText: 'prepare', force });
    const state = summary.fresh ? 'prepared' : 'was prepared already';
    return {
      json: { ...summary },
      text: [`${state}: ${datasetLine(summary)}`, ...sourceLines(summary), summary.directory].join('\n'),
    };
  },
});
