/** Log lines on standard error, for people or, as JSON, for programs. Standard output belongs to the commands' results. */

import { styleText } from 'node:util';

const LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;

export type LogLevel = (typeof LEVELS)[number];

export type LogFields = Readonly<Record<string, unknown>>;

/** What log lines are written to; standard error, but in tests. */
export interface LogStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
}

export interface LoggerOptions {
  /** Lines below this level are dropped; `info` by default. */
  readonly level?: LogLevel;
  /** One JSON object a line, with `time`, `level` and `message`, in place of text. */
  readonly json?: boolean;
  readonly stream?: LogStream;
  /** Fields of every line, e.g. `{ rank: 3 }`. */
  readonly fields?: LogFields;
}

export interface Logger {
  readonly level: LogLevel;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
}

/** Errors and big integers have no JSON of their own. */
function jsonValue(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Error && !('toJSON' in value)) return { name: value.name, message: value.message };
  return value;
}

function fieldText(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  if (value instanceof Error) return JSON.stringify(value.message);
  return JSON.stringify(value, jsonValue) ?? String(value);
}

const COLORS = { debug: 'gray', info: 'cyan', warn: 'yellow', error: 'red' } as const;

function textLine(level: keyof typeof COLORS, message: string, fields: LogFields, color: boolean): string {
  // Left to itself, styleText would ask whether standard output, which is not ours, is a terminal.
  const style = (format: Parameters<typeof styleText>[0], text: string) =>
    color ? styleText(format, text, { validateStream: false }) : text;
  const time = style('gray', new Date().toISOString().slice(11, 19));
  const pairs = Object.entries(fields).map(
    ([key, value]) => ` ${style('gray', `${key}=`)}${fieldText(value)}`,
  );
  return `${time} ${style(COLORS[level], level.padEnd(5))} ${message}${pairs.join('')}\n`;
}

/** Makes a logger. Several may share a stream; a line is written by one call, so lines of several are not mixed. */
export function createLogger(options: LoggerOptions = {}): Logger {
  const { level = 'info', json = false, stream = process.stderr, fields: ownFields = {} } = options;
  const color = !json && stream.isTTY === true && !process.env.NO_COLOR;
  const threshold = LEVELS.indexOf(level);
  const at = (lineLevel: keyof typeof COLORS) => {
    if (LEVELS.indexOf(lineLevel) < threshold) return () => undefined;
    return (message: string, fields: LogFields = {}): void => {
      const all = { ...ownFields, ...fields };
      stream.write(
        json
          ? `${JSON.stringify({ time: new Date().toISOString(), level: lineLevel, message, ...all }, jsonValue)}\n`
          : textLine(lineLevel, message, all, color),
      );
    };
  };
  return {
    level,
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    child: (fields) => createLogger({ ...options, fields: { ...ownFields, ...fields } }),
  };
}
