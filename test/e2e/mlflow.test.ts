/** A run tells an MLflow server of itself, from a process beside it, to its end. */

import test from 'ava';
import { mlflow } from '../support/mlflow.ts';
import { until } from '../support/until.ts';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

test('a run that ends, and one that is gone on with, are told with how they ended', async (t) => {
  const { told, url } = await mlflow(t);
  const endsAs = async (status: string, command: string) => {
    const { code, stderr } = await sandbox.start(command, { MLFLOW_TRACKING_TOKEN: 'abc' }).ended;
    t.is(code, 0, stderr);
    // The process beside it tells it after the run.
    await until(`the run ended as ${status}`, () => told.statuses.at(-1) === status, 30);
  };
  const observe = `--set observe.mlflow.url=${url}`;
  await endsAs('KILLED', `train dense.yaml --run-dir told --until-step 4 ${observe}`);
  await endsAs('FINISHED', 'resume told');
  t.is(told.runs.length, 1);
});
