import { Writable } from 'node:stream';
import { type CurvePoint, readCurve, type StepRecord, type WantedNames } from '@sluice/observe';

export function record(step: number, changes: Partial<StepRecord> = {}): StepRecord {
  return {
    step,
    time: new Date(Date.UTC(2026, 0, 1) + step * 1000).toISOString(),
    loss: 4.5,
    auxiliaryLoss: 0.01,
    gradientNorm: 0.52,
    applied: true,
    learningRate: 1.86e-3,
    tokens: 4096,
    tokensPerSecond: 5210,
    seconds: { total: 1.24, compute: 1, waiting: 0.05, communicate: 0.15, optimize: 0.04 },
    peakMemoryBytes: 812 * 2 ** 20,
    ...changes,
  };
}

/** A stream that keeps what is written to it, and claims to be a terminal or not. */
export class CapturedStream extends Writable {
  text = '';
  readonly isTTY: boolean;
  columns = 100;
  rows = 40;

  constructor(isTTY: boolean) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
  }

  override _write(chunk: string | Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** All that an asynchronous iterator yields. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** A curve with all its points. */
export async function curveOf(path: string, names: WantedNames = {}) {
  const points: CurvePoint[] = [];
  return { ...(await readCurve(path, names, { onPoint: (point) => points.push(point) })), points };
}
