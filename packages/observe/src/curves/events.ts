/**
 * Scalars in TensorBoard's event files. Of the messages (tensorflow/core/util/event.proto, framework/summary.proto, tensor.proto)
 * these fields are read:
 *
 *   Event       2 step (int64), 5 summary (Summary)
 *   Summary     1 value (repeated Value)
 *   Value       1 tag (string), 2 simple_value (float), 8 tensor (TensorProto)
 *   TensorProto 1 dtype (1 float, 2 double), 4 tensor_content (bytes), 5 float_val, 6 double_val (repeated)
 */

import { statSync } from 'node:fs';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { SluiceError } from '@sluice/core';
import { counted } from '../format.ts';
import { chooseName, mayBeChosen, type WantedNames } from './names.ts';
import type { CurveReader, RecordedCurve } from './recordedCurve.ts';
import { readRecords } from './tfRecord.ts';

/** Names of event files. */
export const EVENT_FILE = /\.tfevents\./;

interface Scalar {
  readonly tag: string;
  readonly value: number;
}

/** Values of one tag, steps ascending. */
interface Series {
  readonly steps: number[];
  readonly values: number[];
}

/**
 * Reads the curve of one run from its event files. Where steps were recorded again, by a run that was resumed, what came later
 * counts, as in TensorBoard.
 * @param files oldest first
 * @param place file or directory that the user named
 * @throws SLUICE_E_CURVE_DAMAGED, SLUICE_E_CURVE_NAME
 */
export async function readEventCurve(
  files: readonly string[],
  place: string,
  wanted: WantedNames,
  { onPoint, onProgress }: CurveReader,
): Promise<RecordedCurve> {
  const total = files.reduce((sum, file) => sum + statSync(file).size, 0);
  let before = 0;
  // Of all tags there may be more values than memory holds; of the others the names are told.
  const series = new Map<string, Series | undefined>();
  const seriesOf = (tag: string) => {
    if (!series.has(tag)) {
      const isWanted = mayBeChosen('loss', tag, wanted.loss) || mayBeChosen('norm', tag, wanted.norm);
      series.set(tag, isWanted ? { steps: [], values: [] } : undefined);
    }
    return series.get(tag);
  };
  const recordedAgain = new Map<string, number>();
  for (const file of files) {
    const tell = (bytes: number) => onProgress?.(Math.min(before + bytes, total), total);
    for await (const record of readRecords(file, tell)) {
      const { step, scalars } = readEvent(record, file);
      for (const { tag, value } of scalars) {
        const ofTag = seriesOf(tag);
        if (!ofTag) continue;
        recordedAgain.set(tag, (recordedAgain.get(tag) ?? 0) + takeBack(ofTag, step));
        ofTag.steps.push(step);
        ofTag.values.push(value);
      }
    }
    before += statSync(file).size;
  }
  const lossName = chooseName('loss', [...series.keys()], wanted.loss, place, 'tag')!;
  const normName = chooseName('norm', [...series.keys()], wanted.norm, place, 'tag') ?? null;
  const loss = series.get(lossName)!;
  const norms = normName === null ? undefined : series.get(normName);
  const normAt = new Map(norms?.steps.map((step, i) => [step, norms.values[i]!]));
  for (const [i, step] of loss.steps.entries()) {
    onPoint({ step, loss: loss.values[i]!, gradientNorm: normAt.get(step) });
  }
  const again = recordedAgain.get(lossName)!;
  const passedOver = `${counted(again, 'point')} of steps that were recorded again later: passed over`;
  return { lossName, normName, remarks: again === 0 ? [] : [passedOver] };
}

/** Drops what was recorded of a step and of those after it. @returns how many points that were */
function takeBack({ steps, values }: Series, step: number): number {
  let kept = steps.length;
  while (kept > 0 && steps[kept - 1]! >= step) kept--;
  const dropped = steps.length - kept;
  steps.length = kept;
  values.length = kept;
  return dropped;
}

function readEvent(record: Uint8Array, file: string): { step: number; scalars: Scalar[] } {
  let step = 0;
  const scalars: Scalar[] = [];
  try {
    eachField(record, (field, reader) => {
      if (field === 2) step = Number(reader.int64());
      else if (field === 5) scalars.push(...readSummary(reader.bytes()));
      else return false;
      return true;
    });
  } catch (error) {
    throw new SluiceError(
      'SLUICE_E_CURVE_DAMAGED',
      `${file} holds a record that is no event of TensorBoard.`,
      {
        details: { path: file },
        cause: error,
      },
    );
  }
  return { step, scalars };
}

function readSummary(message: Uint8Array): Scalar[] {
  const scalars: Scalar[] = [];
  eachField(message, (field, reader) => {
    if (field !== 1) return false;
    const scalar = readValue(reader.bytes());
    if (scalar) scalars.push(scalar);
    return true;
  });
  return scalars;
}

function readValue(message: Uint8Array): Scalar | undefined {
  let tag = '';
  let value: number | undefined;
  eachField(message, (field, reader) => {
    if (field === 1) tag = reader.string();
    else if (field === 2) value = reader.float();
    else if (field === 8) value = readScalarTensor(reader.bytes());
    else return false;
    return true;
  });
  return value === undefined ? undefined : { tag, value };
}

const FLOAT = 1;
const DOUBLE = 2;

/** The number that a tensor holds; undefined where it holds several, or something else. */
function readScalarTensor(message: Uint8Array): number | undefined {
  let type = 0;
  let content: Uint8Array = new Uint8Array();
  const values: number[] = [];
  eachField(message, (field, reader, wireType) => {
    const each = (size: number, read: () => number) => {
      const count = wireType === WireType.LengthDelimited ? reader.uint32() / size : 1;
      for (let i = 0; i < count; i++) values.push(read());
    };
    if (field === 1) type = reader.int32();
    else if (field === 4) content = reader.bytes();
    else if (field === 5) each(4, () => reader.float());
    else if (field === 6) each(8, () => reader.double());
    else return false;
    return true;
  });
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  if (type === FLOAT && content.length === 4) return view.getFloat32(0, true);
  if (type === DOUBLE && content.length === 8) return view.getFloat64(0, true);
  return (type === FLOAT || type === DOUBLE) && values.length === 1 ? values[0] : undefined;
}

/** @param take reads the field, or gives false where it is none of those that are wanted */
function eachField(
  message: Uint8Array,
  take: (field: number, reader: BinaryReader, wireType: WireType) => boolean,
): void {
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (!take(field, reader, wireType)) reader.skip(wireType, field);
  }
}
