import { closeSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { SafetensorsFile, writeSafetensors } from '@sluice/checkpoint';
import { BLOCK_ELEMENTS, sha256 } from '@sluice/core';
import test from 'ava';
import fc from 'fast-check';
import { temporaryDirectory } from '../support/temporaryDirectory.ts';
import { valuesOf } from './helpers.ts';

const floats = (values: readonly number[]) => Float32Array.from(values);

/** A file with a header of our own making. */
function craft(
  path: string,
  header: string | Record<string, unknown>,
  data = new Uint8Array(0),
  length?: bigint,
): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.length));
  writeFileSync(path, Buffer.concat([prefix, json, data]));
  return path;
}

test('tensors come back with name, type, shape and bits; the header begins the data at a multiple of eight', async (t) => {
  const directory = temporaryDirectory(t);
  const shape = fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 3 });
  const names = fc.uniqueArray(
    fc
      .string({ unit: 'grapheme', minLength: 1 })
      .filter((name) => name !== '__proto__' && name !== '__metadata__'),
    { maxLength: 5 },
  );
  let file = 0;
  await fc.assert(
    fc.asyncProperty(
      names,
      fc.array(shape, { minLength: 5, maxLength: 5 }),
      fc.dictionary(fc.string(), fc.string()),
      async (keys, list, metadata) => {
        const path = join(directory, `${file++}.safetensors`);
        const tensors = keys.map((name, i) => ({
          name,
          dtype: 'F32' as const,
          shape: list[i]!,
          values: valuesOf(1, 'parameter', { name, shape: list[i]! }),
        }));
        const written = await writeSafetensors(path, tensors, { metadata });
        const bytes = readFileSync(path);
        const headerBytes = 8 + Number(bytes.readBigUInt64LE(0));
        t.is(headerBytes % 8, 0);
        t.is(written.size, bytes.length);
        t.is(written.headerHash, sha256(bytes.subarray(0, headerBytes)));
        const reader = await SafetensorsFile.open(path);
        t.deepEqual({ ...reader.metadata }, { ...metadata });
        t.deepEqual([...reader.tensors.keys()].sort(), [...keys].sort());
        for (const [i, { name, shape: size, values }] of tensors.entries()) {
          t.deepEqual(reader.tensors.get(name)!.shape, size);
          t.is(reader.tensors.get(name)!.offset, written.offsets[i]!);
          const target = new Float32Array(values.length);
          await reader.readFloats(name, target);
          t.deepEqual(Buffer.from(target.buffer), Buffer.from(values.buffer));
        }
        await reader.close();
      },
    ),
    { numRuns: 40 },
  );
});

const PYTHON_FILE =
  'yAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJuIjp7ImR0eXBlIjoiSTY0Iiwic2hhcGUiOl' +
  'sxXSwiZGF0YV9vZmZzZXRzIjpbMCw4XX0sInciOnsiZHR5cGUiOiJGMzIiLCJzaGFwZSI6WzIsMl0sImRhdGFfb2Zm' +
  'c2V0cyI6WzgsMjRdfSwiaCI6eyJkdHlwZSI6IkYxNiIsInNoYXBlIjpbMl0sImRhdGFfb2Zmc2V0cyI6WzI0LDI4XX' +
  '19ICAgIAcAAAAAAAAAAACAPwAAAEAAAEBAAACAQAA4AMA=';

test('a file that the Python package wrote is read', async (t) => {
  // safetensors 0.8.0: {"w": float32 [[1, 2], [3, 4]], "h": float16 [0.5, -2], "n": int64 [7]}, metadata {"format": "pt"}
  const path = join(temporaryDirectory(t), 'python.safetensors');
  writeFileSync(path, Buffer.from(PYTHON_FILE, 'base64'));
  const reader = await SafetensorsFile.open(path);
  t.deepEqual(reader.metadata, { format: 'pt' });
  const w = new Float32Array(4);
  await reader.readFloats('w', w);
  t.deepEqual(w, floats([1, 2, 3, 4]));
  const h = new Float32Array(2);
  await reader.readFloats('h', h);
  t.deepEqual(h, floats([0.5, -2]));
  t.deepEqual(await reader.readIntegers('n'), [7]);
  await reader.close();
});

test('every half-precision number, brain float and double is read as the single-precision number it stands for', async (t) => {
  const path = join(temporaryDirectory(t), 'a.safetensors');
  const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const doubles = Float64Array.from([Math.PI, -1e-310, 1e300, Number.NaN]);
  await writeSafetensors(path, [
    { name: 'half', dtype: 'F16', shape: [65536], values: all },
    { name: 'brain', dtype: 'BF16', shape: [65536], values: all },
    { name: 'double', dtype: 'F64', shape: [4], values: doubles },
  ]);
  const reader = await SafetensorsFile.open(path);
  const half = new Float32Array(65536);
  const brain = new Float32Array(65536);
  await reader.readFloats('half', half);
  await reader.readFloats('brain', brain);
  for (let i = 0; i < 65536; i++) {
    const sign = i & 0x8000 ? -1 : 1;
    const exponent = (i >> 10) & 31;
    const fraction = (i & 1023) / 1024;
    const value =
      exponent === 0
        ? fraction * 2 ** -14
        : exponent === 31
          ? fraction
            ? Number.NaN
            : Infinity
          : (1 + fraction) * 2 ** (exponent - 15);
    if (!Object.is(half[i], sign * value)) t.fail(`half ${i}: ${half[i]}`);
    const wide = new DataView(new ArrayBuffer(4));
    wide.setUint16(0, i);
    if (!Object.is(brain[i], wide.getFloat32(0))) t.fail(`brain ${i}: ${brain[i]}`);
  }
  const double = new Float32Array(4);
  await reader.readFloats('double', double);
  t.deepEqual(double, Float32Array.from(doubles));
  const part = new Float32Array(3);
  await reader.readFloats('half', part, 1000);
  t.deepEqual(part, half.subarray(1000, 1003));
  await reader.close();
});

test('whole numbers of every width are read, and what cannot be read as asked is refused', async (t) => {
  const path = join(temporaryDirectory(t), 'a.safetensors');
  await writeSafetensors(path, [
    { name: 'i64', dtype: 'I64', shape: [2], values: BigInt64Array.from([-(2n ** 40n), 3n]) },
    { name: 'i32', dtype: 'I32', shape: [2], values: Int32Array.from([-5, 2147483647]) },
    { name: 'u8', dtype: 'U8', shape: [1], values: Uint8Array.from([255]) },
    { name: 'huge', dtype: 'I64', shape: [1], values: BigInt64Array.from([2n ** 60n]) },
    { name: 'f', dtype: 'F32', shape: [1], values: floats([1]) },
  ]);
  const reader = await SafetensorsFile.open(path);
  t.deepEqual(await reader.readIntegers('i64'), [-(2 ** 40), 3]);
  t.deepEqual(await reader.readIntegers('i32'), [-5, 2147483647]);
  t.deepEqual(await reader.readIntegers('u8'), [255]);
  const mismatch = { code: 'SLUICE_E_CHECKPOINT_MISMATCH' };
  await t.throwsAsync(reader.readIntegers('huge'), mismatch);
  await t.throwsAsync(reader.readIntegers('f'), mismatch);
  await t.throwsAsync(reader.readFloats('i32', new Float32Array(2)), mismatch);
  await t.throwsAsync(reader.readFloats('no', new Float32Array(2)), mismatch);
  await reader.close();
});

test('a tensor beyond the fifth gigabyte of a file is found', async (t) => {
  const path = join(temporaryDirectory(t), 'large.safetensors');
  const gap = 5 * 2 ** 30;
  craft(path, {
    gap: { dtype: 'I8', shape: [gap], data_offsets: [0, gap] },
    w: { dtype: 'F32', shape: [2], data_offsets: [gap, gap + 8] },
  });
  const start = readFileSync(path).length;
  // The gap takes no space on the disk.
  const handle = openSync(path, 'r+');
  ftruncateSync(handle, start + gap);
  writeSync(handle, Buffer.from(floats([1.5, -2]).buffer), 0, 8, start + gap);
  closeSync(handle);
  const reader = await SafetensorsFile.open(path);
  const w = new Float32Array(2);
  await reader.readFloats('w', w);
  t.deepEqual(w, floats([1.5, -2]));
  await reader.close();
});

test('what is hashed while writing is what was written, block by block, even if the values change meanwhile', async (t) => {
  const path = join(temporaryDirectory(t), 'a.safetensors');
  const values = new Float32Array(70 * BLOCK_ELEMENTS + 5).fill(1);
  const seen: Buffer[] = [];
  const written = await writeSafetensors(
    path,
    [{ name: 'w', dtype: 'F32', shape: [values.length], values }],
    {
      onBlock: (_, block) => {
        seen.push(Buffer.from(block));
        values.fill(seen.length + 1);
      },
    },
  );
  t.is(seen.length, 71);
  t.true(seen.slice(0, -1).every((block) => block.length === 4 * BLOCK_ELEMENTS));
  t.true(Buffer.concat(seen).equals(readFileSync(path).subarray(written.offsets[0]!)));
});

test('files that break the format are refused with the reason', async (t) => {
  const path = join(temporaryDirectory(t), 'bad.safetensors');
  const entry = (dtype: unknown, shape: unknown, data_offsets: unknown) => ({
    w: { dtype, shape, data_offsets },
  });
  const good = entry('F32', [2], [0, 8]);
  const data = new Uint8Array(8);
  const cases: [string, () => unknown, RegExp][] = [
    ['empty', () => writeFileSync(path, ''), /shorter than 8 bytes/],
    ['short', () => writeFileSync(path, 'abc'), /shorter than 8 bytes/],
    ['huge header', () => craft(path, good, data, 2n ** 63n), /more than the format allows/],
    ['header beyond the end', () => craft(path, good, data, 500n), /beyond its end/],
    ['no JSON', () => craft(path, '{"w": ', data), /not JSON/],
    ['no UTF-8', () => craft(path, '', new Uint8Array([0x7b, 0xff, 0x7d]), 3n), /not JSON/],
    ['a list', () => craft(path, '[]'), /no object/],
    ['leading space', () => craft(path, ' {}'), /no object/],
    ['metadata', () => craft(path, { __metadata__: { a: 1 } }), /not a map of text/],
    ['unknown type', () => craft(path, entry('F31', [2], [0, 8]), data), /entry of w/],
    ['inherited type', () => craft(path, entry('toString', [2], [0, 8]), data), /entry of w/],
    ['negative size', () => craft(path, entry('F32', [-2], [0, 8]), data), /entry of w/],
    ['fractional size', () => craft(path, entry('F32', [2.5], [0, 10]), data), /entry of w/],
    ['shape against offsets', () => craft(path, entry('F32', [3], [0, 8]), data), /entry of w/],
    ['backward offsets', () => craft(path, entry('F32', [2], [8, 0]), data), /entry of w/],
    ['offsets missing', () => craft(path, entry('F32', [2], undefined), data), /entry of w/],
    ['null entry', () => craft(path, { w: null }, data), /entry of w/],
    ['gap', () => craft(path, entry('F32', [1], [4, 8]), data), /begins at byte/],
    ['overlap', () => craft(path, { ...good, v: good.w }, data), /begins at byte/],
    ['cut', () => craft(path, good, data.subarray(1)), /its tensors end at/],
    ['trailing bytes', () => craft(path, good, new Uint8Array(9)), /its tensors end at/],
  ];
  for (const [name, make, message] of cases) {
    make();
    await t.throwsAsync(SafetensorsFile.open(path), { code: 'SLUICE_E_SAFETENSORS_INVALID', message }, name);
  }
  await t.throwsAsync(SafetensorsFile.open(`${path}.no`), { code: 'SLUICE_E_FILE_MISSING' });
  craft(path, good, data);
  await (await SafetensorsFile.open(path)).close();
});
