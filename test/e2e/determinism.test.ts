/** The first promise: the same bits, whatever the number of workers and threads, and however often it was stopped. */

import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

interface Trained {
  readonly runDir: string;
  readonly step: number;
  readonly trainLoss: number;
  readonly validationLoss: number;
  readonly weightsHash: string;
}

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

const layouts = {
  dense: [
    ['--workers', '1', '--threads', '2'],
    ['--workers', '2', '--threads', '1'],
    ['--workers', '4', '--threads', '1'],
  ],
  moe: [
    ['--workers', '1', '--threads', '2'],
    ['--workers', '2', '--threads', '1', '--expert-parallel', '1'],
    ['--workers', '2', '--threads', '1', '--expert-parallel', '2'],
    ['--workers', '4', '--threads', '1', '--expert-parallel', '2'],
    ['--workers', '4', '--threads', '1', '--expert-parallel', '4'],
  ],
};

for (const kind of ['dense', 'moe'] as const) {
  test.serial(
    `${kind}: any number of workers, expert-parallel parts and threads gives the same weights`,
    async (t) => {
      const quiet = await sandbox.json<Trained>(
        'train',
        `${kind}.yaml`,
        '--run-dir',
        `${kind}-quiet`,
        '--threads',
        '1',
      );
      t.is(quiet.step, 12);
      t.regex(quiet.weightsHash, /^[0-9a-f]{64}$/);
      for (const layout of layouts[kind]) {
        const name = `${kind}${layout.join('')}`;
        const other = await sandbox.json<Trained>('train', `${kind}.yaml`, '--run-dir', name, ...layout);
        t.is(other.weightsHash, quiet.weightsHash, layout.join(' '));
        t.is(other.trainLoss, quiet.trainLoss);
        t.is(other.validationLoss, quiet.validationLoss);
      }
    },
  );

  test.serial(
    `${kind}: stopped, and resumed on another number of workers, gives the same weights`,
    async (t) => {
      const quiet = await sandbox.json<{ weights: string; optimizer: string }>('hash', `${kind}-quiet`);
      const first = await sandbox.json<Trained>(
        ...['train', `${kind}.yaml`, '--run-dir', `${kind}-stopped`, '--workers', '2', '--max-steps', '5'],
      );
      t.is(first.step, 5);
      const second = await sandbox.json<Trained>(
        'resume',
        `${kind}-stopped`,
        '--workers',
        '4',
        '--max-steps',
        '2',
      );
      t.is(second.step, 7);
      const last = await sandbox.json<Trained>('resume', `${kind}-stopped`, '--workers', '1');
      t.is(last.step, 12);
      t.is(last.weightsHash, quiet.weights);
      t.deepEqual(await sandbox.json('hash', `${kind}-stopped`), await sandbox.json('hash', `${kind}-quiet`));
      t.is((await sandbox.json<{ optimizer: string }>('hash', `${kind}-stopped`)).optimizer, quiet.optimizer);
    },
  );
}

test.serial('another seed gives other weights', async (t) => {
  const quiet = await sandbox.json<{ weights: string }>('hash', 'dense-quiet');
  const other = await sandbox.json<Trained>(
    'train',
    'dense.yaml',
    '--run-dir',
    'dense-other',
    '--set',
    'seed=8',
  );
  t.not(other.weightsHash, quiet.weights);
});
