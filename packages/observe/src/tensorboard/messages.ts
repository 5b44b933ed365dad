/**
 * TensorBoard's messages as bytes: events with scalars, histograms, text, images and hyperparameters. Fields are those of
 * tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto, and TensorBoard's plugins/hparams (api.proto,
 * plugin_data.proto).
 */

import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** One value of a summary, encoded. */
export type SummaryValue = Uint8Array;

/** What `SummaryMetadata.data_class` says. */
const DATA_CLASS = { tensor: 2, blob: 3 } as const;

/** What `DataType` says. */
const FLOAT = 1;
const STRING = 7;

function message(write: (writer: BinaryWriter) => void): Uint8Array {
  const writer = new BinaryWriter();
  write(writer);
  return writer.finish();
}

const bytesField = (writer: BinaryWriter, field: number, bytes: Uint8Array) =>
  writer.tag(field, WireType.LengthDelimited).bytes(bytes);
const textField = (writer: BinaryWriter, field: number, text: string) =>
  writer.tag(field, WireType.LengthDelimited).string(text);
const doubleField = (writer: BinaryWriter, field: number, value: number) =>
  writer.tag(field, WireType.Bit64).double(value);
const intField = (writer: BinaryWriter, field: number, value: number) =>
  writer.tag(field, WireType.Varint).int64(value);

/** What an event holds beside its time, seconds since 1970, and its step. */
export interface EventContent {
  readonly fileVersion?: string;
  readonly values?: readonly SummaryValue[];
  /** Steps from this event's on are recorded again; what was recorded of them before does not count. */
  readonly isRestart?: boolean;
}

export function eventMessage(
  wallTime: number,
  step: number,
  { fileVersion, values, isRestart }: EventContent,
): Uint8Array {
  return message((event) => {
    doubleField(event, 1, wallTime);
    intField(event, 2, step);
    if (fileVersion !== undefined) textField(event, 3, fileVersion);
    if (values !== undefined) {
      bytesField(
        event,
        5,
        message((summary) => {
          for (const value of values) bytesField(summary, 1, value);
        }),
      );
    }
    // SessionLog with the status START.
    if (isRestart)
      bytesField(
        event,
        7,
        message((log) => intField(log, 1, 1)),
      );
  });
}

export function scalarValue(tag: string, value: number): SummaryValue {
  return message((writer) => {
    textField(writer, 1, tag);
    writer.tag(2, WireType.Bit32).float(value);
  });
}

export interface HistogramBins {
  /** Upper ends of the bins, ascending. */
  readonly limits: readonly number[];
  /** How many values each holds. */
  readonly counts: readonly number[];
  readonly low: number;
  readonly high: number;
}

/** Sums are those of values in the middles of their bins. */
export function histogramValue(tag: string, { limits, counts, low, high }: HistogramBins): SummaryValue {
  const middles = limits.map((limit, i) => (limit + (i === 0 ? low : limits[i - 1]!)) / 2);
  const sumOf = (value: (middle: number) => number) =>
    counts.reduce((sum, count, i) => sum + count * value(middles[i]!), 0);
  const packed = (writer: BinaryWriter, field: number, values: readonly number[]) =>
    bytesField(writer, field, new Uint8Array(Float64Array.from(values).buffer));
  const histogram = message((writer) => {
    doubleField(writer, 1, low);
    doubleField(writer, 2, high);
    doubleField(
      writer,
      3,
      sumOf(() => 1),
    );
    doubleField(
      writer,
      4,
      sumOf((middle) => middle),
    );
    doubleField(
      writer,
      5,
      sumOf((middle) => middle * middle),
    );
    packed(writer, 6, limits);
    packed(writer, 7, counts);
  });
  return message((writer) => {
    textField(writer, 1, tag);
    bytesField(writer, 5, histogram);
  });
}

/** @param text Markdown */
export function textValue(tag: string, text: string): SummaryValue {
  return message((writer) => {
    textField(writer, 1, `${tag}/text_summary`);
    bytesField(
      writer,
      8,
      tensor(STRING, (content) => textField(content, 8, text)),
    );
    bytesField(writer, 9, metadata('text', new Uint8Array(), DATA_CLASS.tensor));
  });
}

/** @param png the encoded image, of width × height pixels in RGB */
export function imageValue(tag: string, png: Uint8Array, width: number, height: number): SummaryValue {
  const image = message((writer) => {
    intField(writer, 1, height);
    intField(writer, 2, width);
    intField(writer, 3, 3);
    bytesField(writer, 4, png);
  });
  return message((writer) => {
    textField(writer, 1, tag);
    bytesField(writer, 4, image);
  });
}

export type Hyperparameters = Readonly<Record<string, number | string | boolean>>;

/** Where the tab of hyperparameters finds the measures of a run. */
export interface ComparedMeasure {
  readonly tag: string;
}

/** What a run was told, and by what it is compared with others. */
export function hyperparameterValues(
  values: Hyperparameters,
  measures: readonly ComparedMeasure[],
  startSeconds: number,
): SummaryValue[] {
  const experiment = message((writer) => {
    doubleField(writer, 3, startSeconds);
    for (const [name, value] of Object.entries(values)) {
      bytesField(
        writer,
        4,
        message((info) => {
          textField(info, 1, name);
          intField(info, 4, HYPERPARAMETER_TYPES[typeof value as keyof typeof HYPERPARAMETER_TYPES]);
        }),
      );
    }
    for (const { tag } of measures) {
      const name = message((metric) => textField(metric, 2, tag));
      bytesField(
        writer,
        5,
        message((info) => bytesField(info, 1, name)),
      );
    }
  });
  const start = message((writer) => {
    for (const [name, value] of Object.entries(values)) {
      bytesField(
        writer,
        1,
        message((entry) => {
          textField(entry, 1, name);
          bytesField(
            entry,
            2,
            message((held) => plainValue(held, value)),
          );
        }),
      );
    }
    doubleField(writer, 5, startSeconds);
  });
  return [
    pluginValue('_hparams_/experiment', 2, experiment),
    pluginValue('_hparams_/session_start_info', 3, start),
  ];
}

/** How a run ended. */
export function sessionEndValue(isSuccess: boolean, endSeconds: number): SummaryValue {
  const end = message((writer) => {
    intField(writer, 1, isSuccess ? 1 : 2);
    doubleField(writer, 2, endSeconds);
  });
  return pluginValue('_hparams_/session_end_info', 4, end);
}

const HYPERPARAMETER_TYPES = { string: 1, boolean: 2, number: 3 } as const;

/** google.protobuf.Value. */
function plainValue(writer: BinaryWriter, value: number | string | boolean): void {
  if (typeof value === 'number') doubleField(writer, 2, value);
  else if (typeof value === 'string') textField(writer, 3, value);
  else writer.tag(4, WireType.Varint).bool(value);
}

/** @param field of `HParamsPluginData` */
function pluginValue(tag: string, field: number, content: Uint8Array): SummaryValue {
  const data = message((writer) => bytesField(writer, field, content));
  return message((writer) => {
    textField(writer, 1, tag);
    bytesField(
      writer,
      8,
      tensor(FLOAT, (values) => values.tag(5, WireType.Bit32).float(0)),
    );
    bytesField(writer, 9, metadata('hparams', data));
  });
}

/** A tensor of one element. */
function tensor(type: number, content: (writer: BinaryWriter) => void): Uint8Array {
  return message((writer) => {
    intField(writer, 1, type);
    const dimension = message((size) => intField(size, 1, 1));
    bytesField(
      writer,
      2,
      message((shape) => bytesField(shape, 2, dimension)),
    );
    content(writer);
  });
}

function metadata(plugin: string, content: Uint8Array, dataClass?: number): Uint8Array {
  const data = message((writer) => {
    textField(writer, 1, plugin);
    bytesField(writer, 2, content);
  });
  return message((writer) => {
    bytesField(writer, 1, data);
    if (dataClass !== undefined) intField(writer, 4, dataClass);
  });
}
