/**
 * `npm run test:hosts -- --faults 20`: what `sluice verify-resume` does to processes, done to hosts that truly lose power, stand still,
 * and lose their cables: runs on three of them are hit at instants that a seed draws, until there were so many faults. Each must come
 * to the weights of a quiet run on one machine, and leave no process. In the end it says how long each kind took.
 */

import { setTimeout } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { randomKey, randomPair } from '@sluice/core';
import type { Running } from '../support/running.ts';
import { LaunchLab } from './support/launched.ts';

/** Mean time between the first step after a fault and the next fault, ms. */
const MEAN_PAUSE_MS = 3000;

/** How long the coordinator's host stands still or is cut off, ms: longer than agents wait for a sign of life. */
const AWAY_MS = 20_000;

const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '4' },
    'expert-parallel': { type: 'string', default: '1' },
  },
});
const count = Number(values.faults);
const key = randomKey(Number(values.seed), 'faults of hosts');
const all = await LaunchLab.up(
  'extends: moe.yaml\ntraining: { steps: 400 }\ncheckpoint: { everySteps: 20 }',
  {
    workers: Number(values.workers),
    expertParallel: Number(values['expert-parallel']),
  },
);
const { lab } = all;

interface Kind {
  readonly name: string;
  /** Whom it may befall, of the hosts that have workers. */
  readonly of: (busy: readonly string[]) => readonly string[];
  readonly hit: (host: string) => void | Promise<void>;
  readonly mend: (host: string) => void | Promise<void>;
  /** When it is mended: once there was a step without the host, as soon as the run is about to go on, or after a while. */
  readonly mended: 'after a step' | 'going on' | 'after a while' | 'for a new command';
}

const others = (busy: readonly string[]) => busy.filter((name) => name !== 'h1');
const bothOthers = (busy: readonly string[]) => (others(busy).length === 2 ? ['h2 and h3'] : []);
const coordinator = () => ['h1'];
const power = { hit: (host: string) => lab.crash(host), mend: (host: string) => lab.boot(host) };
const freeze = { hit: (host: string) => lab.freeze(host), mend: (host: string) => lab.thaw(host) };
const cut = { hit: (host: string) => lab.cut(host), mend: (host: string) => lab.heal(host) };
/** They meet again before they are found out to be apart for good, after which one of them is done without for ten minutes. */
const apart = { hit: () => lab.separate('h2', 'h3'), mend: () => lab.reunite('h2', 'h3') };

const KINDS: readonly Kind[] = [
  { name: 'power cut', of: others, ...power, mended: 'after a step' },
  { name: 'frozen', of: others, ...freeze, mended: 'after a step' },
  { name: 'cable cut', of: others, ...cut, mended: 'after a step' },
  { name: 'two hosts apart', of: bothOthers, ...apart, mended: 'going on' },
  { name: 'coordinator frozen', of: coordinator, ...freeze, mended: 'after a while' },
  { name: 'coordinator cut off', of: coordinator, ...cut, mended: 'after a while' },
  { name: 'coordinator power cut', of: coordinator, ...power, mended: 'for a new command' },
];

let drawn = 0;
/** From 0 to 1. */
const draw = () => randomPair(key, drawn++)[0] / 2 ** 32;

/** All kinds come equally often, in an order that is drawn. */
const order: Kind[] = [];
function nextKind(): Kind {
  if (order.length === 0) {
    const places = KINDS.map((kind) => ({ kind, at: draw() }));
    order.push(...places.sort((a, b) => a.at - b.at).map(({ kind }) => kind));
  }
  return order.shift()!;
}

const seconds = new Map<string, number[]>(KINDS.map(({ name }) => [name, []]));
const done = () => [...seconds.values()].flat().length;
const hasEnded = ({ child }: Running) => child.exitCode !== null || child.signalCode !== null;

/**
 * Hits a run, and mends what was hit.
 * @returns the command that goes on with it
 */
async function strike(
  { name, hit, mend, mended }: Kind,
  host: string,
  runDir: string,
  run: Running,
): Promise<Running> {
  const goesOn = run.showsNext(/going on by itself from step|spreading the workers anew/);
  goesOn.catch(() => {});
  let isMended = false;
  const mendOnce = async () => {
    if (!isMended) await mend(host);
    isMended = true;
  };
  const start = performance.now();
  await hit(host);
  if (mended === 'after a while') await setTimeout(AWAY_MS).then(mendOnce);
  if (mended === 'for a new command') await mendOnce();
  const next = mended === 'for a new command' ? all.launch({ runDir }) : run;
  try {
    if (next === run) await goesOn;
    if (mended === 'going on') await mendOnce();
    await all.nextStep(runDir, next);
  } catch (error) {
    // One that was hit as it ended has nothing to go on with.
    if ((await next.ended).code !== 0) throw error;
    return next;
  } finally {
    await mendOnce();
  }
  const took = (performance.now() - start) / 1000;
  seconds.get(name)!.push(took);
  console.log(`${done()}/${count} ${name}: ${host}: next step after ${took.toFixed(1)} s`);
  return next;
}

/** A run to its end. */
async function abuse(runDir: string): Promise<void> {
  let run = all.launch({ runDir });
  await run.shown('saved step 20');
  while (done() < count) {
    await setTimeout(draw() * 2 * MEAN_PAUSE_MS);
    if (hasEnded(run)) break;
    const kind = nextKind();
    const hosts = kind.of(all.busyHosts());
    const host = hosts[Math.floor(draw() * hosts.length)];
    if (host !== undefined) run = await strike(kind, host, runDir, run);
    // Its turn comes when the hosts are back.
    else order.push(kind);
  }
  const { code, stdout, stderr } = await run.ended;
  if (code !== 0) throw new Error(`${runDir} ended with ${code}:\n${stdout}\n${stderr}`);
  const { weightsHash } = JSON.parse(stdout);
  if (weightsHash !== all.quietWeights) {
    throw new Error(`${runDir} has the weights ${weightsHash}, a quiet run ${all.quietWeights}:\n${stderr}`);
  }
  const left = await all.leftOver();
  if (left.length > 0) throw new Error(`${runDir} has left:\n${left.join('\n')}`);
}

function table(): string {
  const median = (sorted: readonly number[]) => sorted[Math.floor(sorted.length / 2)]!;
  return [...seconds]
    .filter(([, took]) => took.length > 0)
    .map(([name, took]) => {
      const sorted = took.toSorted((a, b) => a - b);
      const [least, most] = [sorted[0]!, sorted.at(-1)!];
      return `  ${name.padEnd(22)} ${String(took.length).padStart(3)}  next step after ${median(sorted).toFixed(1)} s (median), ${least.toFixed(1)} to ${most.toFixed(1)} s`;
    })
    .join('\n');
}

try {
  for (let round = 1; done() < count; round++) {
    const before = done();
    await abuse(`runs/round-${round}`);
    console.log(`round ${round}: the same weights after ${done() - before} faults`);
  }
  console.log(`identical: ${done()} faults of hosts, all runs with the weights of a quiet one\n${table()}`);
} catch (error) {
  console.error(`--seed ${values.seed}, after ${done()} faults: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await all.down();
}
