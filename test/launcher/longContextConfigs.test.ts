import { loadRecipe } from '@sluice/data';
import test from 'ava';
import { experimentRun, loadExperiment } from '../../launcher/src/experiment/config.ts';
import { loadRunConfig } from '../../launcher/src/run/runConfig.ts';
import { validateConfig } from '../../launcher/src/run/validate.ts';

for (const name of ['needles', 'needles-longer']) {
  test(`configs/${name}.yaml is a run that can begin, and a sequence is a token and a document`, (t) => {
    const config = loadRunConfig(`configs/${name}.yaml`, {});
    t.notThrows(() => validateConfig(config));
    const [source] = loadRecipe(config.data.recipe!).recipe.sources;
    t.is(source!.kind === 'needles' && source!.length + 1, config.data.sequenceLength);
  });
}

test('the experiment has pairs of runs that differ in the gate alone', (t) => {
  const path = 'configs/experiments/long-context.yaml';
  const experiment = loadExperiment(path);
  const runOf = (name: string) =>
    experimentRun(path, experiment, experiment.rows.find((row) => row.name === name)!, 'tiny');
  for (const ending of ['', '-longer']) {
    const [plain, gated] = [runOf(`plain${ending}`), runOf(`gate${ending}`)];
    t.deepEqual(plain.model.gates, []);
    t.is(gated.model.gates.length, 1);
    t.deepEqual({ ...gated, model: { ...gated.model, gates: [] } }, plain);
  }
});
