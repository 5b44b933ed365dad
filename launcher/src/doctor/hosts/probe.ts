/**
 * A host that takes part in `doctor --hosts`: it says what it is, listens, and tries connections to others when told. This process
 * speaks with one on another host over the standard streams of an ssh, a JSON object a line, so that even a host that reaches
 * nobody can say so.
 */

import { hostname } from 'node:os';
import { createInterface } from 'node:readline';
import type { CurveKeys } from '@sluice/collectives';
import { availableCores, availableMemory } from '@sluice/core';
import { z } from 'zod';
import { listGpus } from '../../backends/gpus.ts';
import { visibleDevices } from '../../coordinator/devices.ts';
import { addressTowards } from '../../fleet/address.ts';
import { ownBuild } from '../../fleet/build.ts';
import { KeyFile } from '../../fleet/keyFile.ts';
import { Build } from '../../fleet/protocol.ts';
import { AGENT_BEGINS } from '../../fleet/starters/ssh.ts';
import { LinkResult, type Listener, listen, tryLink } from './link.ts';

/** What a host says of itself. */
export const HostFacts = z.object({
  machine: z.string(),
  /** Number by which its workers would be reached. */
  address: z.string(),
  /** Where it listens for this check; null where it cannot. */
  endpoint: z.string().nullable(),
  /** Why it cannot listen there. */
  failure: z.string().nullable(),
  build: Build,
  cores: z.number(),
  memoryBytes: z.number(),
  gpus: z.number(),
});
export type HostFacts = z.infer<typeof HostFacts>;

/** First line that a host reads. */
export const ProbePlace = z.strictObject({
  curve: KeyFile,
  /** Address of the host from which the check is made. */
  towards: z.string(),
  advertise: z.string().optional(),
});
export type ProbePlace = z.infer<typeof ProbePlace>;

/** Every further line. */
export const ProbeTask = z.strictObject({ connect: z.string() });

export const ProbeAnswer = z.union([z.object({ facts: HostFacts }), z.object({ link: LinkResult })]);
export type ProbeAnswer = z.infer<typeof ProbeAnswer>;

/** A host as the check sees it. */
export interface Probe {
  readonly facts: HostFacts;
  tryLink(endpoint: string): Promise<LinkResult>;
  end(): void;
}

/** This host itself. */
export async function ownProbe(place: ProbePlace): Promise<Probe> {
  const { facts, listener } = await begin(place);
  return {
    facts,
    tryLink: (endpoint) => tryLink(endpoint, place.curve),
    end: () => listener?.close(),
  };
}

/** Serves the process that started this one by ssh, until its standard input ends. */
export async function serveProbe(): Promise<void> {
  process.stderr.write(`${AGENT_BEGINS}\n`);
  let curve: CurveKeys | undefined;
  let listener: Listener | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    const message: unknown = JSON.parse(line);
    if (curve === undefined) {
      const place = ProbePlace.parse(message);
      curve = place.curve;
      const begun = await begin(place);
      listener = begun.listener;
      say({ facts: begun.facts });
    } else {
      say({ link: await tryLink(ProbeTask.parse(message).connect, curve) });
    }
  }
  listener?.close();
}

function say(answer: ProbeAnswer): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

async function begin({
  curve,
  towards,
  advertise,
}: ProbePlace): Promise<{ facts: HostFacts; listener: Listener | undefined }> {
  let listener: Listener | undefined;
  let failure: string | null = null;
  let address = advertise;
  try {
    address ??= await addressTowards(towards);
    listener = await listen(address, curve);
  } catch (error) {
    const { message } = error as Error;
    failure =
      address === undefined
        ? `it has no way to ${towards} (${message})`
        : `its workers could not listen where others reach them, at ${address} (${message})`;
  }
  const facts: HostFacts = {
    machine: hostname(),
    address: address ?? 'unknown',
    endpoint: listener?.endpoint ?? null,
    failure,
    build: ownBuild(),
    cores: availableCores().count,
    memoryBytes: availableMemory(),
    gpus: visibleDevices(process.env.CUDA_VISIBLE_DEVICES, listGpus()).length,
  };
  return { facts, listener };
}
