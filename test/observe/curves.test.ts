import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { MetricsLog, readCurve } from '@sluice/observe';
import test, { type ExecutionContext } from 'ava';
import { chooseName, mayBeChosen } from '../../packages/observe/src/curves/names.ts';
import { maskedChecksum } from '../../packages/observe/src/curves/tfRecord.ts';
import { failureOf } from '../support/failureOf.ts';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { curveOf, record } from './support.ts';

/** Writes a file into a directory of its own. */
function fileOf(t: ExecutionContext, content: string | Uint8Array, name = 'curve.csv'): string {
  const path = join(temporaryDirectory(t), name);
  writeFileSync(path, content);
  return path;
}

const points = async (path: string, names = {}) =>
  (await curveOf(path, names)).points.map(({ step, loss, gradientNorm }) =>
    gradientNorm === undefined ? [step, loss] : [step, loss, gradientNorm],
  );

test('columns of a CSV are found by name, wherever they stand and however they are written', async (t) => {
  const expected = [
    [17, 9.5, 0.25],
    [57, 7.25, 2],
  ];
  for (const content of [
    'step,loss,gradientNorm\n17,9.5,0.25\n57,7.25,2\n',
    '\ufeffloss,gradientNorm,step,time\r\n9.5,.25,17,"a, b"\r\n7.25,2.0,57,c\r\n',
    ' "Step" , "Loss" , "Gradient Norm"\n\n17 , 9.5, 0.25\n57, 7.25 ,2e0',
    'iteration\tgrad_norm\ttrain/loss\n17\t0.25\t9.5\n57\t2\t7.25',
    '"Step","run 7 - train/loss","run 7 - train/grad_norm"\n17,9.5,0.25\n57,7.25,2\n',
  ]) {
    t.deepEqual(await points(fileOf(t, content)), expected, JSON.stringify(content));
  }
  t.deepEqual(await points(fileOf(t, 'Wall time,Step,Value\n1.5,1,9.5\n2.5,3,7\n')), [
    [1, 9.5],
    [3, 7],
  ]);
});

test('numbers that are not finite are read; lines without a loss are passed over, which is said', async (t) => {
  const path = fileOf(t, 'step,loss,gradientNorm\n1,nan,Infinity\n2,,1\n3,inf,\n4,2,3\n');
  t.deepEqual(await points(path), [
    [1, Number.NaN, Number.POSITIVE_INFINITY],
    [3, Number.POSITIVE_INFINITY],
    [4, 2, 3],
  ]);
  t.deepEqual((await curveOf(path)).remarks, ['1 of 4 lines have no loss: passed over']);
});

const mistakes: [content: string, code: string, message: RegExp][] = [
  ['', 'SLUICE_E_CURVE_INVALID', /curve\.csv:1: an empty file has no header/],
  ['step,loss\n', 'SLUICE_E_CURVE_INVALID', /holds no point of a curve/],
  [
    '17,9.5\n57,7.25\n',
    'SLUICE_E_CURVE_NAME',
    /curve\.csv:1: no column is known to be the step.*"17", "9\.5"/,
  ],
  [
    'step,accuracy\n1,2\n',
    'SLUICE_E_CURVE_NAME',
    /to be the loss; there are: "step", "accuracy".*--loss-tag/,
  ],
  ['step,a - loss,b - loss\n1,2,3\n', 'SLUICE_E_CURVE_NAME', /2 columns could be the loss/],
  [
    'step,loss\n1,2\n\n3,abc\n',
    'SLUICE_E_CURVE_INVALID',
    /curve\.csv:4: "abc" in the column "loss" is no number/,
  ],
  ['step,loss\n1,0x10\n', 'SLUICE_E_CURVE_INVALID', /"0x10" in the column "loss"/],
  ['step,loss\n1.5,2\n', 'SLUICE_E_CURVE_INVALID', /curve\.csv:2: the step "1\.5" is no whole number/],
  [
    'step,loss\n5,2\n5,3\n',
    'SLUICE_E_CURVE_INVALID',
    /curve\.csv:3: step 5 comes after step 5; steps must ascend/,
  ],
  ['step,loss\n1,2\n2\n', 'SLUICE_E_CURVE_INVALID', /curve\.csv:3: 1 cell, but the header has 2 columns/],
  ['step,loss\n1,"2\n', 'SLUICE_E_CURVE_INVALID', /curve\.csv:\d: Quote Not Closed/],
];
for (const [content, code, message] of mistakes) {
  test(`refused by its line: ${JSON.stringify(content)}`, async (t) => {
    t.like(await failureOf(curveOf(fileOf(t, content))), { code });
    t.regex((await failureOf(curveOf(fileOf(t, content)))).message, message);
  });
}

test('points are handed out while the file is read', async (t) => {
  const steps: number[] = [];
  const path = fileOf(t, 'step,loss\n1,2\n2,3\n3,abc\n4,5\n');
  await failureOf(readCurve(path, {}, { onPoint: ({ step }) => steps.push(step) }));
  t.deepEqual(steps, [1, 2]);
});

test('a column that is chosen is taken, and one that is not there is refused with those that are', async (t) => {
  const path = fileOf(t, 'step,a - loss,b - loss,norm\n1,2,3,4\n');
  t.deepEqual(await points(path, { loss: 'b - loss', norm: 'norm' }), [[1, 3, 4]]);
  t.regex(
    (await failureOf(curveOf(path, { loss: 'c' }))).message,
    /no column is called "c"; there are: "step"/,
  );
});

test('a log of metrics is a curve, with the norms of groups and the updates; one without norms has none', async (t) => {
  const path = join(temporaryDirectory(t), 'metrics.jsonl');
  const log = MetricsLog.open(path);
  log.append(record(1, { groupNorms: { router: 0.5 } }));
  const lastUpdate = { overall: 0.001, groups: { router: 0.002 } };
  log.append(record(2, { loss: 4.25, lastUpdate, learningRate: 0.5 }));
  log.append(record(4, { loss: Number.NaN, gradientNorm: Number.NaN, lastUpdate }));
  log.close();
  const { points, normName } = await curveOf(path);
  t.is(normName, 'gradientNorm');
  t.deepEqual(points, [
    { step: 1, loss: 4.5, gradientNorm: 0.52, groupNorms: { router: 0.5 }, lastUpdate: undefined },
    {
      ...{ step: 2, loss: 4.25, gradientNorm: 0.52, groupNorms: undefined },
      // At the rate of step 1, which it is of.
      lastUpdate: { ...lastUpdate, learningRate: record(1).learningRate },
    },
    // The step that its update is of is not there.
    {
      ...{ step: 4, loss: Number.NaN, gradientNorm: Number.NaN, groupNorms: undefined },
      lastUpdate: undefined,
    },
  ]);
  const plain = await curveOf(fileOf(t, '{"step":1,"loss":2}\n{"step":2,"loss":3}\n', 'log.txt'));
  t.is(plain.normName, null);
  t.deepEqual(
    plain.points.map(({ loss, gradientNorm }) => [loss, gradientNorm]),
    [
      [2, undefined],
      [3, undefined],
    ],
  );
});

// Event files

function frame(data: Uint8Array): Buffer {
  const header = Buffer.alloc(12);
  header.writeBigUInt64LE(BigInt(data.length));
  header.writeUInt32LE(maskedChecksum(header.subarray(0, 8)), 8);
  const footer = Buffer.alloc(4);
  footer.writeUInt32LE(maskedChecksum(data));
  return Buffer.concat([header, data, footer]);
}

type Fields = (writer: BinaryWriter) => BinaryWriter;

const simpleValue =
  (value: number): Fields =>
  (writer) =>
    writer.tag(2, WireType.Bit32).float(value);

/** As TensorFlow 2 and PyTorch's newer writers put it: a tensor without dimensions. */
const floatTensor =
  (value: number): Fields =>
  (writer) =>
    writer
      .tag(8, WireType.LengthDelimited)
      .fork()
      .tag(1, WireType.Varint)
      .int32(1)
      .tag(5, WireType.LengthDelimited)
      .fork()
      .float(value)
      .join()
      .join();

const tensorContent =
  (value: number): Fields =>
  (writer) =>
    writer
      .tag(8, WireType.LengthDelimited)
      .fork()
      .tag(1, WireType.Varint)
      .int32(2)
      .tag(4, WireType.LengthDelimited)
      .bytes(new Uint8Array(new Float64Array([value]).buffer))
      .join();

function event(step: number, values: Readonly<Record<string, Fields>>): Buffer {
  const writer = new BinaryWriter().tag(1, WireType.Bit64).double(1.7e9).tag(2, WireType.Varint).int64(step);
  writer.tag(5, WireType.LengthDelimited).fork();
  for (const [tag, fields] of Object.entries(values)) {
    writer.tag(1, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).string(tag);
    fields(writer).join();
  }
  return frame(writer.join().finish());
}

const VERSION = frame(new BinaryWriter().tag(3, WireType.LengthDelimited).string('brain.Event:2').finish());

test('checksums are those of the format', (t) => {
  // CRC-32C of "123456789" is e3069283.
  const unmasked = 0xe3069283;
  const masked = (((unmasked >>> 15) | (unmasked << 17)) + 0xa282ead8) >>> 0;
  t.is(maskedChecksum(Buffer.from('123456789')), masked);
});

test('scalars of event files are read, plain and as tensors, each tag by its name', async (t) => {
  const directory = temporaryDirectory(t);
  const write = (name: string, events: readonly Buffer[]) =>
    writeFileSync(join(directory, name), Buffer.concat([VERSION, ...events]));
  write('events.out.tfevents.100.host', [
    event(1, { 'train/loss': simpleValue(4), 'train/grad_norm': simpleValue(0.5), lr: simpleValue(9) }),
    event(2, { 'train/loss': floatTensor(3.5) }),
    event(5, { 'train/loss': tensorContent(3.25), 'train/grad_norm': floatTensor(2) }),
  ]);
  const expected = [
    [1, 4, 0.5],
    [2, 3.5],
    [5, 3.25, 2],
  ];
  t.deepEqual(await points(directory), expected);
  t.deepEqual(await points(join(directory, 'events.out.tfevents.100.host')), expected);
  t.deepEqual(await points(directory, { loss: 'lr', norm: 'train/loss' }), [[1, 9, 4]]);
  // A run that was resumed takes steps again.
  write('events.out.tfevents.200.host', [event(5, { 'train/loss': simpleValue(3) })]);
  t.deepEqual(await points(directory), [
    [1, 4, 0.5],
    [2, 3.5],
    [5, 3, 2],
  ]);
  t.regex((await curveOf(directory)).remarks[0]!, /^1 point of steps that were recorded again/);
});

test('a file that is still written is read up to its last whole event; a changed byte is found', async (t) => {
  const whole = Buffer.concat([
    VERSION,
    event(1, { loss: simpleValue(4) }),
    event(2, { loss: simpleValue(3) }),
  ]);
  for (const length of [whole.length - 1, whole.length - 20]) {
    t.deepEqual(await points(fileOf(t, whole.subarray(0, length), 'log.bin')), [[1, 4]], `${length}`);
  }
  for (const at of [VERSION.length + 3, VERSION.length + 30]) {
    const changed = Buffer.from(whole);
    changed[at]! ^= 4;
    const failure = await failureOf(curveOf(fileOf(t, changed, 'events.out.tfevents.1')));
    t.is(failure.code, 'SLUICE_E_CURVE_DAMAGED');
    t.regex(failure.message, new RegExp(`byte ${VERSION.length}: `));
  }
});

test('values are kept of every tag that may be chosen, and of no other', (t) => {
  const names = [
    'loss',
    'train/lm_loss',
    'run 7 - train/loss',
    'optim/total_grad_norm',
    'mean_loss',
    'lr',
    '',
  ];
  for (const name of names) {
    for (const wanted of [undefined, 'lr']) {
      for (const kind of ['loss', 'norm'] as const) {
        let chosen: string | undefined;
        try {
          chosen = chooseName(kind, [name], wanted, '', 'tag');
        } catch {
          // It is none of those that are known.
        }
        t.is(mayBeChosen(kind, name, wanted), chosen !== undefined, `${kind}: ${name}, ${wanted}`);
      }
    }
  }
});

test('a directory without event files leads to those below it; tags are listed where none is the loss', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(join(directory, 'train'));
  writeFileSync(join(directory, 'train', 'events.out.tfevents.1'), event(1, { accuracy: simpleValue(1) }));
  const above = await failureOf(curveOf(directory));
  t.is(above.code, 'SLUICE_E_CURVE_INVALID');
  t.true(above.message.includes(`There are some in ${join(directory, 'train')}`));
  const tags = await failureOf(curveOf(join(directory, 'train')));
  t.is(tags.code, 'SLUICE_E_CURVE_NAME');
  t.regex(tags.message, /no tag is known to be the loss; there are: "accuracy"/);
  t.is((await failureOf(curveOf(join(directory, 'none')))).code, 'SLUICE_E_FILE_MISSING');
});
