/** Event files for TensorBoard: their framing, their messages, and what of a run is in them. */

import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { convertToTensorboard, TensorboardSink } from '@sluice/observe';
import test from 'ava';
import fc from 'fast-check';
import { frameRecord, maskedChecksum, readRecords } from '../../packages/observe/src/curves/tfRecord.ts';
import { encodePng } from '../../packages/observe/src/tensorboard/png.ts';
import { hyperparametersOf } from '../../packages/observe/src/tensorboard/sink.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { collect, curveOf, record } from './support.ts';

test('records come back from their frames; the checksum is the one that everybody computes', async (t) => {
  // CRC-32C of these digits is e3069283 (RFC 3720, B.4 has the algorithm; this is its usual check value), masked.
  t.is(
    maskedChecksum(Buffer.from('123456789')),
    ((((0xe3069283 >>> 15) | (0xe3069283 << 17)) >>> 0) + 0xa282ead8) >>> 0,
  );
  const path = join(temporaryDirectory(t), 'records');
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), async (records) => {
      writeFileSync(path, Buffer.concat(records.map(frameRecord)));
      t.deepEqual(
        (await collect(readRecords(path))).map((one) => [...one]),
        records.map((one) => [...one]),
      );
    }),
    { numRuns: 40 },
  );
});

/** Fields of a message by number, as bytes or numbers. */
function fieldsOf(message: Uint8Array): Map<number, (Uint8Array | number)[]> {
  const fields = new Map<number, (Uint8Array | number)[]>();
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const value =
      wireType === WireType.LengthDelimited
        ? reader.bytes()
        : wireType === WireType.Bit64
          ? reader.double()
          : wireType === WireType.Bit32
            ? reader.float()
            : Number(reader.int64());
    fields.set(field, [...(fields.get(field) ?? []), value]);
  }
  return fields;
}

const text = (value: Uint8Array | number | undefined) => Buffer.from(value as Uint8Array).toString();

const GATE = {
  ...{
    name: 'sdpa_gate',
    position: 'sdpa',
    form: 'multiplicative',
    mean: 0.5,
    belowTenth: 0,
    aboveNineTenths: 0,
  },
  histogram: [0.25, 0.75],
};

function measurement(step: number) {
  const layer = {
    layer: 0,
    firstTokenAttention: 0.5,
    massiveActivation: 8,
    gateScoreMean: 0.25,
    gates: [GATE],
  };
  return { step, firstTokenAttention: 0.5, massiveActivation: 8, gates: [GATE], layers: [layer] } as never;
}

function sinkIn(folder: string, isNew = true) {
  return new TensorboardSink(folder, {
    config: { name: 'x', model: { layers: 2, tied: true } },
    isNew,
    now: () => 1000.5,
  });
}

async function eventsIn(folder: string) {
  const [name] = readdirSync(folder);
  const events = (await collect(readRecords(join(folder, name!)))).map(fieldsOf);
  const values = events.flatMap((event) =>
    (event.get(5) ?? []).flatMap((summary) =>
      (fieldsOf(summary as Uint8Array).get(1) ?? []).map((value) => fieldsOf(value as Uint8Array)),
    ),
  );
  return { events, tagged: new Map(values.map((value) => [text(value.get(1)?.[0]), value])) };
}

test('a run is told with its configuration, scalars, histograms, pictures and its end', async (t) => {
  const folder = join(temporaryDirectory(t), 'tensorboard');
  const sink = sinkIn(folder);
  sink.step(record(1, { loss: 4, groupNorms: { head: 2 }, validationLoss: 5 }));
  sink.measured(measurement(1));
  sink.step(record(2, { loss: Number.NaN }));
  sink.close(true);
  const { events, tagged } = await eventsIn(folder);
  t.is(text(events[0]!.get(3)?.[0]), 'brain.Event:2');
  t.is(tagged.get('train/loss')!.get(2)?.[0], 4);
  t.is(tagged.get('gradient_norm/head')!.get(2)?.[0], 2);
  t.is(tagged.get('validation/loss')!.get(2)?.[0], 5);
  const histogram = fieldsOf(tagged.get('gates/sdpa_gate')!.get(5)![0] as Uint8Array);
  t.deepEqual(
    [1, 2, 3, 4].map((field) => histogram.get(field)![0]),
    [0, 1, 10_000, 2500 * 0.25 + 7500 * 0.75],
  );
  t.regex(text(tagged.get('configuration/text_summary')!.get(8)![0]), /"layers": 2/);
  const image = fieldsOf(tagged.get('layers/gate')!.get(4)![0] as Uint8Array);
  t.deepEqual([image.get(1)![0], image.get(2)![0]], [16, 4]);
  const metadata = fieldsOf(tagged.get('_hparams_/session_start_info')!.get(9)![0] as Uint8Array);
  t.is(text(fieldsOf(metadata.get(1)![0] as Uint8Array).get(1)![0]), 'hparams');
  t.true(tagged.has('_hparams_/session_end_info'));
  // Our own reader of other trainers' curves agrees.
  const curve = await curveOf(folder, { loss: 'train/loss' });
  t.deepEqual(
    curve.points.map(({ step, loss }) => [step, loss]),
    [[1, 4]],
  );
});

test('a run that goes back says from which step on its events do not count; one that is resumed is not told anew', async (t) => {
  const folder = temporaryDirectory(t);
  const sink = sinkIn(folder, false);
  sink.step(record(7));
  sink.wentBack(4);
  sink.close(false);
  const { events, tagged } = await eventsIn(folder);
  const [restart] = events.filter((event) => event.has(7));
  t.is(restart!.get(2)![0], 5);
  t.is(fieldsOf(restart!.get(7)![0] as Uint8Array).get(1)![0], 1);
  t.false(tagged.has('configuration/text_summary'));
});

test('the logs of a run become the same events afterwards, at the times of its steps', async (t) => {
  const run = temporaryDirectory(t);
  const records = [1, 2, 3].map((step) => record(step, { loss: step }));
  writeFileSync(join(run, 'metrics.jsonl'), records.map((one) => `${JSON.stringify(one)}\n`).join(''));
  writeFileSync(join(run, 'diagnostics.jsonl'), `${JSON.stringify(measurement(2))}\n`);
  writeFileSync(join(run, 'samples.jsonl'), '{"step":3,"prompt":"A *dog*","text":" is\\n1. an"}\n');
  const folder = join(run, 'tensorboard');
  t.deepEqual(await convertToTensorboard(run, folder, {}, true), { steps: 3, measurements: 1 });
  const { events, tagged } = await eventsIn(folder);
  t.regex(text(tagged.get('samples/1/text_summary')!.get(8)![0]), / {4}A \*dog\* is\n {4}1\. an/);
  const third = events.find((event) => event.get(2)![0] === 3)!;
  t.is(third.get(1)![0], Date.parse(records[2]!.time) / 1000);
});

test('logs that are not told to their end leave no events behind', async (t) => {
  const run = temporaryDirectory(t);
  // More than is read at once: something has been written by then.
  const lines = Array.from({ length: 1000 }, (_, i) => `${JSON.stringify(record(i + 1))}\n`);
  writeFileSync(join(run, 'metrics.jsonl'), lines.join(''));
  const folder = join(run, 'tensorboard');
  let written = 0;
  const interrupted = new Error('interrupted');
  const convert = convertToTensorboard(run, folder, {}, true, (done, total) => {
    written = existsSync(folder) ? readdirSync(folder).length : 0;
    if (written > 0 && done === total) throw interrupted;
  });
  t.is(await t.throwsAsync(convert), interrupted);
  t.is(written, 1);
  t.deepEqual(readdirSync(folder), []);
});

test('hyperparameters are the keys of the configuration by their paths', (t) => {
  t.deepEqual(hyperparametersOf({ a: 1, b: { c: 'x', d: [1, 2], e: null }, f: false }), {
    ...{ a: 1, 'b.c': 'x', 'b.d': '[1,2]', f: false },
  });
});

test('a picture holds its pixels row by row', (t) => {
  const rgb = Uint8Array.from({ length: 2 * 2 * 3 }, (_, i) => i);
  const png = encodePng(2, 2, rgb);
  t.is(png.toString('latin1', 1, 4), 'PNG');
  const start = png.indexOf('IDAT') + 4;
  const rows = inflateSync(png.subarray(start, start + png.readUInt32BE(start - 8)));
  t.deepEqual([...rows], [0, 0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 11]);
});
