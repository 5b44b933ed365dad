/** Entry of the thread that owns all sockets of a worker, so that the main thread can compute or block. */

import { writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@sluice/core';
import { Context } from 'zeromq';
import { ControlClient } from './controlClient.ts';
import { errorToData } from './controlProtocol.ts';
import { detoured } from './detour.ts';
import { Exchange } from './exchange.ts';
import { HierarchicalGroup } from './hierarchicalGroup.ts';
import { hostGrid } from './hostGrid.ts';
import { ProcessGroup } from './processGroup.ts';
import { Authenticator } from './security.ts';
import { DONE, FAILED, SharedState } from './sharedState.ts';
import type { Failure, FromThread, ThreadOptions, ToThread } from './threadProtocol.ts';
import { ownState } from './workerState.ts';
import { ZeroMqTransport } from './zeromqTransport.ts';

const options = workerData as ThreadOptions;
const main = parentPort;
invariant(main !== null, 'the communication thread has a parent');
const state = new SharedState(options.memory);
const say = (message: FromThread) => main.postMessage(message);

const pulse = setInterval(() => state.beat(), 500);
const pendingSlots = new Map<number, string>();
const groups = new Map<string, ProcessGroup>();

process.on('uncaughtException', (error) => {
  for (const slot of pendingSlots.keys()) fail(slot, error);
  say({ type: 'broken', error: errorToData(error, 'communication thread') });
});

const context = new Context();
const curve = options.curve === undefined ? {} : { curve: options.curve };
let authenticator: Authenticator | undefined;
let isForgedTold = false;

const control = new ControlClient({
  context,
  ...curve,
  coordinator: options.coordinator,
  silenceMs: options.limits.coordinatorSilenceMs,
  ...(options.parentPid === undefined ? {} : { parentPid: options.parentPid }),
});

start().catch(async (error: unknown) => {
  say({ type: 'broken', error: errorToData(error, 'communication thread') });
  clearInterval(pulse);
  await control.close();
  authenticator?.close();
  main.close();
});

async function start(): Promise<void> {
  const { rank, token, transport: kind, host, directory, neighbours = [] } = options;
  // The coordinator says how many ranks there are; until then nobody can send to this one.
  const isSealed = options.protection === 'authenticated';
  if (options.curve !== undefined && !isSealed)
    authenticator = await Authenticator.start(context, options.curve);
  let exchange: Exchange | undefined;
  const transport = await ZeroMqTransport.open({
    ...{ kind, rank, token, context },
    onBroken: (peer, error) => exchange?.peerLost(peer, error),
    ...(host !== undefined && { host }),
    ...(directory !== undefined && { directory }),
    hasNeighbours: neighbours.length > 1,
    ...(isSealed ? { seals: true, onForged: tellForged } : curve),
  });
  const endpoints = await control
    .join(
      {
        ...{ token, rank, host: hostname(), pid: process.pid },
        endpoint: await detoured(rank, transport.endpoint),
        ...(transport.near !== undefined && { near: transport.near }),
      },
      options.limits.connectMs,
      {
        activity,
        state: () => ownState(state.readActivity(), exchange?.operations ?? []),
        onCall: (call) => say({ type: 'call', ...call }),
        onLost: (lostRank, error) => {
          tell({ lost: lostRank, error: errorToData(error, 'lost worker') });
          state.lose();
          exchange?.peerLost(lostRank, error);
        },
        onAbandoned: endProcess,
      },
    )
    .catch(async (error) => {
      await transport.close();
      throw error;
    });
  transport.connect(endpoints);
  exchange = new Exchange(transport);
  const opened = exchange;
  main!.on('message', (message: ToThread) => handle(message, opened));
  say({ type: 'ready', size: endpoints.length });
  const apart = await transport.unreached(options.limits.reachMs);
  if (apart.length === 0) control.send('ready', {});
  else control.send('apart', { ranks: apart });
}

function handle(message: ToThread, exchange: Exchange): void {
  switch (message.type) {
    case 'launch':
      launch(message, exchange);
      break;
    case 'result':
      control.send('result', { id: message.id, value: message.value });
      break;
    case 'failure':
      control.send('failure', { id: message.id, error: message.error });
      break;
    case 'close':
      void close(message.reason, exchange);
      break;
  }
}

function launch(message: ToThread & { type: 'launch' }, exchange: Exchange): void {
  const { slot, ranks, name, args } = message;
  pendingSlots.set(slot, `${name} of group [${ranks.join(', ')}]`);
  const group = groupOf(ranks, exchange);
  const run = group[name] as (...args: readonly unknown[]) => Promise<number>;
  run.apply(group, args as unknown[]).then(
    (begun) => {
      pendingSlots.delete(slot);
      state.settle(slot, DONE, begun);
    },
    (error: unknown) => fail(slot, error),
  );
}

function groupOf(ranks: readonly number[], exchange: Exchange): ProcessGroup {
  const key = ranks.join(',');
  let group = groups.get(key);
  if (group === undefined) {
    const limits = { limitMs: options.limits.collectiveMs };
    const grid = hostGrid(ranks, options.hosts ?? []);
    group = grid
      ? new HierarchicalGroup(exchange, ranks, grid, limits)
      : new ProcessGroup(exchange, ranks, limits);
    groups.set(key, group);
  }
  return group;
}

/** The error is posted before the state changes, so that the main thread finds it when it wakes. */
function fail(slot: number, error: unknown): void {
  pendingSlots.delete(slot);
  tell({ slot, error: errorToData(error, 'collective operation') });
  state.settle(slot, FAILED);
}

function tell(failure: Failure): void {
  options.failures.postMessage(failure);
}

function activity(): string {
  const [oldest] = pendingSlots.values();
  return oldest === undefined ? state.readActivity() : `${state.readActivity()}; under way: ${oldest}`;
}

async function close(reason: string, exchange: Exchange): Promise<void> {
  clearInterval(pulse);
  control.send('goodbye', { reason });
  await control.close();
  await exchange.close();
  authenticator?.close();
  state.close();
  options.failures.close();
  main!.close();
}

/** Who is out to disturb would fill the disk: only the first is told. */
function tellForged(from: number): void {
  if (isForgedTold) return;
  isForgedTold = true;
  writeError(
    `rank ${options.rank} has left out a message that says it is of rank ${from}: somebody has forged it, or something on its way has changed it.`,
  );
}

/** A worker without a coordinator must not go on, even when its main thread blocks or computes. */
function endProcess(reason: string): void {
  writeError(`rank ${options.rank} ends itself: ${reason}.`);
  process.kill(process.pid, 'SIGKILL');
}

/** At once: the main thread, through which `process.stderr` goes, may be blocked. */
function writeError(text: string): void {
  try {
    writeSync(2, `sluice: ${text}\n`);
  } catch {
    // Whoever would read it is gone, too.
  }
}
