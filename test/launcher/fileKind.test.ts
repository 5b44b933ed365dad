import { join } from 'node:path';
import { sluiceRoot } from '@sluice/core';
import test from 'ava';
import { main } from '../../launcher/src/main.ts';

const RUN = 'configs/quickstart.yaml';
const MODEL = 'configs/models/1.7b-28l.yaml';
const RECIPE = 'data/recipes/english-small.yaml';
const EXPERIMENT = 'configs/experiments/bigram-backcopy.yaml';

const mistakes: [command: string, file: string, message: RegExp][] = [
  ['train', MODEL, /is a model alone: a configuration that names it/],
  ['train', RECIPE, /is the recipe of a corpus: prepare it by `sluice data prepare`/],
  ['launch', EXPERIMENT, /is an experiment: run it by `sluice experiment`/],
  ['verify-resume', MODEL, /is a model alone/],
  ['data prepare', RUN, /is the configuration of a run: train it by `sluice train`/],
  ['experiment', MODEL, /is a model alone/],
  ['find-lr', RUN, /is the configuration of a run/],
  ['count', RECIPE, /is the recipe of a corpus/],
  ['plan', EXPERIMENT, /is an experiment/],
];

for (const [command, file, message] of mistakes) {
  test(`sluice ${command} ${file} says what the file is, and what it is for`, async (t) => {
    let out = '';
    const code = await main([...command.split(' '), join(sluiceRoot, file), '--json'], {
      out: (text) => {
        out += text;
      },
      err: () => {},
    });
    t.is(code, 2);
    const { error } = JSON.parse(out) as { error: { code: string; message: string } };
    t.is(error.code, 'SLUICE_E_USAGE');
    t.regex(error.message, message);
  });
}
