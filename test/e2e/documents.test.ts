/** Runs that keep documents apart, or begin them with a token: the same bits on other workers, and other programs are told. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { tokensAround } from '@sluice/data';
import test from 'ava';
import { Sandbox } from './support/sandbox.ts';

const sandbox = new Sandbox();
test.after.always(() => sandbox.dispose());

interface Trained {
  readonly weightsHash: string;
  readonly validationLoss: number;
}

const read = (...path: string[]) => JSON.parse(readFileSync(join(sandbox.path, ...path), 'utf8'));

test.serial('experts and separate documents: no number of workers changes the weights', async (t) => {
  const train = (directory: string, flags: string) =>
    sandbox.json<Trained>(
      `train moe.yaml --run-dir ${directory} ${flags} --threads 1 --set data.documents=separate`,
    );
  const one = await train('moe-1', '--workers 1');
  t.is((await train('moe-2', '--workers 2 --expert-parallel 2')).weightsHash, one.weightsHash);
  const packed = await sandbox.json<Trained>('train moe.yaml --run-dir moe-packed --threads 1');
  t.not(packed.weightsHash, one.weightsHash);
  const { loss } = await sandbox.json<{ loss: number }>('evaluate moe-1');
  t.true(Math.abs(loss - one.validationLoss) < 0.5);
});

test.serial('an exported model says what its texts begin with', async (t) => {
  const exported = async (name: string, set: string) => {
    await sandbox.json(`train dense.yaml --run-dir ${name} --threads 1 --until-step 1 --set ${set}`);
    await sandbox.json(`export ${name} --hf ${name}-hf`);
    const config = read(`${name}-hf`, 'config.json');
    const { before: start } = tokensAround(join(sandbox.path, `${name}-hf`, 'tokenizer.json'));
    return { config, start, tokenizer: read(`${name}-hf`, 'tokenizer_config.json') };
  };
  const plain = await exported('plain', 'data.documents=packed');
  t.like(plain.tokenizer, { add_bos_token: true, bos_token: '<|endoftext|>', eos_token: '<|endoftext|>' });
  t.is(plain.config.bos_token_id, plain.config.eos_token_id);
  t.deepEqual(plain.start, [plain.config.bos_token_id]);
  const separate = await exported('separate', 'data.documents=separate');
  t.false(separate.tokenizer.add_bos_token);
  t.deepEqual(separate.start, []);
  t.false('bos_token' in separate.tokenizer || 'bos_token_id' in separate.config);
  const begun = await exported('begun', 'data.beginning=e');
  t.like(begun.tokenizer, { add_bos_token: true, bos_token: 'e', eos_token: '<|endoftext|>' });
  t.not(begun.config.bos_token_id, begun.config.eos_token_id);
  t.deepEqual(begun.start, [begun.config.bos_token_id]);
});
