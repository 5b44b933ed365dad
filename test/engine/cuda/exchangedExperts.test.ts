/** Experts that GPUs share: what one is asked for while rows travel. */

import { exchangedExperts, type RowRange, selectBackend } from '@sluice/engine';
import { type Activations, cudaBackend, type DeviceArray, flat } from '@sluice/engine/cuda';
import * as tf from '@tensorflow/tfjs';
import test from 'ava';
import { type Operation, operand, runOperation } from '../support/differential.ts';

process.env.SLUICE_CUDA = 'emulated';

const [CHANNELS, UNITS, EXPERTS] = [6, 5, 2];
/** Own rows for each expert of both peers, and those of both for the own ones. */
const [COUNTS, RECEIVED] = [Int32Array.of(3, 1, 2, 0), Int32Array.of(3, 1, 0, 4)];
const OPERANDS = {
  x: operand(1, [6, CHANNELS]),
  gateUp: operand(2, [EXPERTS, 2 * UNITS, CHANNELS]),
  down: operand(3, [EXPERTS, CHANNELS, UNITS]),
};

/** Something that depends on no peer, after experts that do. @param note is told what is done, in order */
function operationOf(note: (what: string) => void): Operation {
  const startOnDevice = (_: Activations, __: unknown, received: Activations, from: readonly RowRange[]) => {
    note('send');
    for (const { begin, end } of from)
      flat.fill(received.subarray(begin * CHANNELS, end * CHANNELS) as DeviceArray<'f32'>, 0.5);
    return { done: false, wait: () => note('wait') };
  };
  const start = () => {
    throw new Error('devices that are linked do without their hosts');
  };
  const received = { done: true, wait: () => RECEIVED };
  const travel = { start, startOnDevice, received, rank: 0, peers: 2, counts: COUNTS };
  return ({ x, gateUp, down }) => {
    const y = exchangedExperts(x!.onTape() as tf.Tensor2D, { ...travel, gateUp: gateUp!, down: down! });
    note('return');
    return tf.add(tf.square(x!.onTape()), y);
  };
}

test.serial(
  'own rows are computed while others travel, and who needs the result waits for those that come back',
  async (t) => {
    await selectBackend('cuda', 'f32');
    const { driver } = cudaBackend().device;
    const { launch } = driver;
    t.teardown(() => {
      driver.launch = launch;
    });
    const done: string[] = [];
    const note = (what: string) => {
      if (done.at(-1) !== what) done.push(what);
    };
    driver.launch = (...args) => {
      note('compute');
      launch.apply(driver, args);
    };
    runOperation('cuda', operationOf(note), OPERANDS, 2);
    const there = ['send', 'compute', 'wait', 'compute'];
    const forward = [...there, 'send', 'return', 'compute', 'wait', 'compute'];
    t.deepEqual(done, [...forward, ...there, 'send', 'compute', 'wait', 'compute']);
  },
);

test.serial('memory is given back, also where an exchange fails', async (t) => {
  await selectBackend('cuda', 'f32');
  const { arena } = cudaBackend().device;
  /** Bytes that a run leaves in use: of its operands and their gradients. */
  const left = (operation: Operation, error?: string) => {
    const { usedBytes } = arena.statistics();
    const run = () => runOperation('cuda', operation, OPERANDS, 2);
    if (error) t.throws(run, { message: error });
    else run();
    return arena.statistics().usedBytes - usedBytes;
  };
  const ofOperands = left(({ x }) => tf.square(x!.onTape()));
  t.is(left(operationOf(() => {})), ofOperands);
  for (const failing of [1, 2, 3, 4]) {
    let sends = 0;
    const operation = operationOf((what) => {
      if (what === 'send' && ++sends === failing) throw new Error(`send ${failing}`);
    });
    t.is(left(operation, `send ${failing}`), ofOperands, `send ${failing}`);
  }
});
