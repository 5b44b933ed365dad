/** `sluice doctor --hosts`: whether the hosts of a file can run together, before a run finds out that they cannot. */

import { generateCurveKeys } from '@sluice/collectives';
import { counted, formatBytes, formatNumber, terminalTable } from '@sluice/observe';
import type { CommandResult } from '../../cli/command.ts';
import { addressTowards, isLoopback } from '../../fleet/address.ts';
import { refuseOtherBuild } from '../../fleet/build.ts';
import { addressForHosts, nodeName, type SshHost } from '../../fleet/hostFile.ts';
import type { NamedHosts } from '../../fleet/namedHosts.ts';
import type { LinkResult } from './link.ts';
import { ownProbe, type Probe, type ProbePlace } from './probe.ts';
import { rounds } from './rounds.ts';
import { sshProbe } from './sshProbe.ts';

/** A host of the file, or this one, which coordinates. */
export interface Examined {
  readonly name: string;
  readonly probe: Probe | undefined;
  /** Why it cannot take part, in words. */
  readonly failure: string | undefined;
}

export interface Link extends LinkResult {
  readonly from: string;
  readonly to: string;
  readonly address: string;
}

/** sshd refuses some of many connections that begin at once (MaxStartups 10:30:100). */
const AT_ONCE = 8;

const HERE = 'this host';

export async function examineHosts(
  { hosts: listed, command, advertise }: NamedHosts,
  log: (line: string) => void,
): Promise<CommandResult> {
  const curve = generateCurveKeys();
  const towards = advertise ?? (await ownAddress(listed));
  const here: Examined = {
    name: HERE,
    probe: await ownProbe({ curve, towards, advertise: towards }),
    failure: undefined,
  };
  log(`starting the check on ${counted(listed.length, 'host')}; they come back to ${towards}`);
  const others = await startAll(listed, { curve, towards }, command);
  const hosts = [here, ...others];
  try {
    return result(hosts, await tryAll(hosts, log));
  } finally {
    for (const { probe } of hosts) probe?.end();
  }
}

/** Of no machine (RFC 5737), so that packets to it would leave by the default route. */
const ANYWHERE = '192.0.2.1';

/** As `sluice launch` finds it; a host that cannot be found is a finding here, and ends nothing. */
async function ownAddress(hosts: readonly SshHost[]): Promise<string> {
  return addressForHosts(hosts)
    .catch(() => addressTowards(ANYWHERE))
    .catch(() => '127.0.0.1');
}

async function startAll(
  hosts: readonly SshHost[],
  place: ProbePlace,
  command: readonly string[] | undefined,
): Promise<Examined[]> {
  const examined: Examined[] = [];
  const waiting = hosts.entries();
  const startNext = async () => {
    for (const [i, host] of waiting) examined[i] = await start(host, place, command);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, startNext));
  return examined;
}

async function start(
  host: SshHost,
  place: ProbePlace,
  command: readonly string[] | undefined,
): Promise<Examined> {
  const advertise = host.address === undefined ? {} : { advertise: host.address };
  try {
    const probe = await sshProbe(host, { ...place, ...advertise }, command);
    return { name: nodeName(host), probe, failure: undefined };
  } catch (error) {
    return { name: nodeName(host), probe: undefined, failure: (error as Error).message };
  }
}

async function tryAll(hosts: readonly Examined[], log: (line: string) => void): Promise<Link[]> {
  const links: Link[] = [];
  const connect = async (from: Examined, to: Examined) => {
    const endpoint = to.probe?.facts.endpoint;
    if (!from.probe || !endpoint) return;
    links.push({
      ...{ from: from.name, to: to.name, address: to.probe.facts.address },
      ...(await from.probe.tryLink(endpoint)),
    });
  };
  const all = rounds(hosts.length);
  for (const [i, pairs] of all.entries()) {
    if (all.length > 8) log(`round ${i + 1} of ${all.length}`);
    await Promise.all(
      pairs.map(async ([a, b]) => {
        await connect(hosts[a]!, hosts[b]!);
        await connect(hosts[b]!, hosts[a]!);
      }),
    );
  }
  return links;
}

/** Everything that keeps the hosts from running together, each in a sentence. */
export function faultsOf(hosts: readonly Examined[], links: readonly Link[]): string[] {
  const [here, ...others] = hosts;
  const faults = hosts.flatMap(({ name, probe, failure }) => {
    if (!probe) return [`${name} cannot be looked at: ${failure}`];
    const told: string[] = [];
    if (probe.facts.failure !== null)
      told.push(`${name}: ${probe.facts.failure}; say another by address= in the file of hosts`);
    try {
      refuseOtherBuild(name, probe.facts.build, here!.probe!.facts.build);
    } catch (error) {
      told.push((error as Error).message);
    }
    return told;
  });
  const addresses = others.flatMap(({ name, probe }) => (probe ? [{ name, ...probe.facts }] : []));
  const machines = new Set(addresses.map(({ machine }) => machine));
  const local = addresses.filter(({ address }) => isLoopback(address));
  if (machines.size > 1 && local.length > 0) {
    const names = local.map(({ name }) => name).join(', ');
    faults.push(
      `${names} would be reached by ${local[0]!.address}, which means every host to itself: say another by address= in the file of hosts`,
    );
  }
  for (const { from, to, address, failure } of links) {
    if (failure !== null) faults.push(`${from} cannot connect to ${to} at ${address}: ${failure}`);
  }
  return faults;
}

function result(hosts: readonly Examined[], links: readonly Link[]): CommandResult {
  const faults = faultsOf(hosts, links);
  const [here] = hosts;
  const rows = hosts.map(({ name, probe }) => {
    if (!probe) return [name, 'not looked at'];
    const { address, build, cores, memoryBytes, gpus } = probe.facts;
    const isSame = build.content === here!.probe!.facts.build.content;
    return [
      ...[
        name,
        address,
        build.sluice,
        isSame ? 'the same' : build.content.slice(0, 12),
        build.arithmetic,
        build.node,
      ],
      ...[String(cores), formatBytes(memoryBytes), String(gpus)],
    ];
  });
  const between = links.map(({ from, to, roundTripMs, bytesPerSecond, failure }) => [
    ...[from, to, failure === null ? 'ok' : failure.split(':')[0]!],
    roundTripMs === null ? '' : `${formatNumber(roundTripMs)} ms`,
    bytesPerSecond === null ? '' : `${formatBytes(bytesPerSecond)}/s`,
  ]);
  return {
    text: [
      terminalTable(rows, {
        header: ['host', 'address', 'sluice', 'program', 'arithmetic', 'node', 'cores', 'memory', 'GPUs'],
      }),
      '',
      terminalTable(between, {
        header: ['from', 'to', '', 'round trip', 'rate'],
        align: ['left', 'left', 'left', 'right', 'right'],
      }),
      '',
      ...(faults.length === 0
        ? ['All hosts reach each other, and run the same program.']
        : ['Faults:', ...faults.map((one) => `  ${one}`)]),
    ].join('\n'),
    json: {
      ok: faults.length === 0,
      hosts: hosts.map(({ name, probe, failure }) => ({ name, ...(probe?.facts ?? { failure }) })),
      links,
      faults,
    },
    exitCode: faults.length === 0 ? 0 : 1,
  };
}
