/**
 * Copies in the memory of hosts whose coordinator was killed, for a run that goes on on this machine alone. The agents of those hosts
 * look for a coordinator where theirs was; they find this process there, which takes what they hold into this machine's memory.
 */

import { rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readManifestText, type ShardRecord } from '@sluice/checkpoint';
import { makeDirectories, SluiceError } from '@sluice/core';
import { memoryOf } from '@sluice/train';
import { anyAddress, formatEndpoint, isLoopback, ownAddresses, parseEndpoint } from '../fleet/address.ts';
import { ownBuild } from '../fleet/build.ts';
import { EXIT_DONE } from '../fleet/exitCode.ts';
import { FleetServer } from '../fleet/fleetServer.ts';
import type { Host } from '../fleet/host.ts';
import { type Contact, readContact } from '../run/contact.ts';
import type { MemoryCopies } from './memoryCopies.ts';
import { recallCopies, type Wanted } from './recalledCopies.ts';

type Log = (line: string) => void;

/** Where agents of a coordinator that was killed look for the next one, and by which key they know it. */
export interface LeftAgents {
  readonly endpoint: string;
  readonly curve: NonNullable<Contact['curve']>;
}

/** After so long without a newcomer, all have come that look for a coordinator: they try again every other second, ms. */
const NO_MORE_MS = 6000;
const LOOK_MS = 100;
/** How long agents may take to leave, ms. */
const LEAVE_MS = 5000;

/**
 * Reads what a coordinator that was killed has left of its way to its agents.
 * @param path of the run's contact
 * @param token of the run: a directory that was copied has the contact of another run
 * @returns undefined where it had no agents, or they look for it on another machine
 */
export function leftAgents(path: string, token: string): LeftAgents | undefined {
  const contact = contactOf(path);
  if (contact?.curve === undefined || contact.run !== token || contact.host !== hostname()) return undefined;
  const own = ownAddresses();
  const places = contact.endpoints.map(parseEndpoint);
  if (places.length === 0 || !places.every(({ host }) => isLoopback(host) || own.includes(host)))
    return undefined;
  const [{ host, port }] = places as [(typeof places)[number]];
  // It names all of its addresses where it had listened on all.
  const all = anyAddress(...places.map((place) => place.host));
  const endpoint = formatEndpoint({ host: places.length > 1 ? all : host, port });
  return { endpoint, curve: contact.curve };
}

/** One that another user wrote holds a key that is not for this one. */
function contactOf(path: string): Contact | undefined {
  try {
    return readContact(path);
  } catch {
    return undefined;
  }
}

/**
 * Lets the agents come, takes the newest copies that they hold, and sends them home: the run has no more work for them.
 * @param here this machine
 * @returns undefined where they hold none that the run goes on from, or none could be taken, which is said
 */
export async function takeLeftCopies(
  { endpoint, curve }: LeftAgents,
  here: Host,
  wanted: Wanted,
  log: Log,
): Promise<MemoryCopies | undefined> {
  let lastCame = performance.now();
  const came = () => {
    lastCame = performance.now();
  };
  const events = { joined: came, lost: () => {}, refused: () => {}, stop: () => {}, asked: () => ({}) };
  let server: FleetServer;
  try {
    server = await FleetServer.listen({ endpoint, curve, build: ownBuild() }, events);
  } catch (error) {
    log(`copies in the memory of other hosts are not looked for: ${(error as Error).message}`);
    return undefined;
  }
  try {
    log(`looking for agents that hold copies, at ${endpoint}`);
    while (performance.now() - lastCame < NO_MORE_MS) await delay(LOOK_MS);
    const copies = await recallCopies(server.hosts, wanted, log);
    return copies && (await take(copies, here, log));
  } finally {
    await server.end(EXIT_DONE, `the run goes on on ${hostname()} alone`, LEAVE_MS);
  }
}

/** Brings copies into the memory of this machine, where its workers look for them. */
async function take(copies: MemoryCopies, here: Host, log: Log): Promise<MemoryCopies | undefined> {
  const folder = `step-${copies.step}`;
  const directory = join(memoryOf(process.pid), folder);
  const { shards } = readManifestText(copies.manifest);
  try {
    makeDirectories(directory);
    for (const [i, shard] of shards.entries()) {
      await takeShard(shard, copies.holders[i]!, folder, join(directory, shard.file));
    }
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    rmSync(directory, { recursive: true, force: true });
    log(`the hosts have copies of step ${copies.step}, which could not be brought here: ${error.message}`);
    return undefined;
  }
  return { ...copies, holders: shards.map(() => [here]) };
}

/** @throws what the last of its holders failed with; SLUICE_E_DISK_FULL */
async function takeShard(
  { file, size }: ShardRecord,
  holders: readonly Host[],
  folder: string,
  to: string,
): Promise<void> {
  for (const [i, { files }] of holders.entries()) {
    try {
      return await files!.fetch('memory', { path: `${folder}/${file}`, size }, to);
    } catch (error) {
      const isLost = error instanceof SluiceError && error.code === 'SLUICE_E_WORKER_LOST';
      if (!isLost || i === holders.length - 1) throw error;
    }
  }
}
