/** Measures collective operations among real processes on this machine. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { MeasuredOperation } from './benchOperations.ts';
import { ControlServer } from './controlServer.ts';
import type { BenchRequest, BenchResult } from './measureOperation.ts';
import type { TransportKind } from './zeromqTransport.ts';

export interface CollectivesBenchOptions {
  /** Processes. */
  readonly world: number;
  /** Size of the float32 buffer, MiB. */
  readonly mib: number;
  readonly transport?: TransportKind;
  /** An all-reduce when left out. */
  readonly operation?: MeasuredOperation;
  /** Operations, of which the first two are not counted. */
  readonly iterations?: number;
  /** Ends the processes when it is aborted; what the call throws then says that they are lost. */
  readonly signal?: AbortSignal;
}

export interface CollectivesBenchReport extends BenchRequest {
  readonly world: number;
  readonly transport: TransportKind;
  readonly medianMs: number;
  readonly minMs: number;
  /** Of a median operation, mean of the ranks: until the last of them had begun it, and from then on. */
  readonly waitingMs: number;
  readonly movingMs: number;
  /** Processor time that a rank spends on it, mean of the ranks: what other work on the machine disturbs least. */
  readonly cpuMs: number;
  /**
   * (N − 1) / N × bytes / median time, of an all-reduce twice that: what each rank must move, whatever the algorithm; 10^9 bytes a
   * second.
   */
  readonly busGBps: number;
}

/** Operations, and how many of the first ones are not counted. */
export const [ITERATIONS, WARM_UP] = [12, 2];

/** Starts `world` processes, lets them carry out operations, and reports the median as rank 0 saw it. */
export async function benchCollectives(options: CollectivesBenchOptions): Promise<CollectivesBenchReport> {
  const { world, mib, transport = 'ipc', operation = 'allReduce', iterations = ITERATIONS, signal } = options;
  const server = await ControlServer.listen({ worldSize: world, transport });
  const workers = Array.from({ length: world }, (_, rank) => startWorker(server, rank));
  const killAll = () => {
    for (const worker of workers) if (worker.exitCode === null) worker.kill('SIGKILL');
  };
  signal?.addEventListener('abort', killAll);
  try {
    await server.ready();
    const request: BenchRequest = { operation, mib, iterations };
    const results = await server.callAll<BenchResult>('bench', request, { limitMs: 300_000 });
    await server.callAll('stop', {}, { kind: 'stop' });
    await Promise.all(workers.map(exited));
    return benchReport(results, { ...request, transport });
  } finally {
    signal?.removeEventListener('abort', killAll);
    killAll();
    await server.close();
  }
}

/** What the ranks' times come to. */
export function benchReport(
  results: readonly BenchResult[],
  { operation, mib, iterations, transport }: BenchRequest & Pick<CollectivesBenchReport, 'transport'>,
): CollectivesBenchReport {
  const world = results.length;
  const counted = results[0]!.total.slice(WARM_UP);
  const medianMs = median(counted);
  const waitingMs = median(meanOfRanks(results.map(({ waiting }) => waiting)));
  const movingMs = median(
    meanOfRanks(results.map(({ total, waiting }) => total.map((ms, i) => ms - waiting[i]!))),
  );
  const cpuMs = median(meanOfRanks(results.map(({ cpu }) => cpu)));
  const bytes = mib * 2 ** 20;
  const passes = operation === 'allReduce' ? 2 : 1;
  return {
    ...{ operation, world, mib, transport, iterations },
    ...{ medianMs, minMs: Math.min(...counted), waitingMs, movingMs, cpuMs },
    busGBps: (passes * (world - 1) * bytes) / world / (medianMs * 1e6),
  };
}

/** For each operation that counts. */
function meanOfRanks(ofRanks: readonly (readonly number[])[]): number[] {
  return ofRanks[0]!
    .map((_, i) => ofRanks.reduce((sum, each) => sum + each[i]!, 0) / ofRanks.length)
    .slice(WARM_UP);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

function startWorker(server: ControlServer, rank: number): ChildProcess {
  const entry = fileURLToPath(new URL('./benchWorker.js', import.meta.url));
  const worker = spawn(process.execPath, [entry], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  worker.send(server.invitation(rank));
  worker.once('exit', (code, signal) => server.markLost(rank, `it ended with ${signal ?? `code ${code}`}`));
  return worker;
}

function exited(worker: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (worker.exitCode !== null || worker.signalCode !== null) resolve();
    else worker.once('exit', () => resolve());
  });
}
