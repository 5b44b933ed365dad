/** The hosts whose agents have joined, and the waiting for those that have not. */

import { setTimeout as delay } from 'node:timers/promises';
import type { CurveKeys, Protection } from '@sluice/collectives';
import { SluiceError } from '@sluice/core';
import { formatDuration, formatWholeSeconds } from '@sluice/observe';
import {
  addressTowards,
  formatEndpoint,
  isLoopback,
  isUnspecified,
  ownAddresses,
  parseEndpoint,
} from './address.ts';
import type { AgentHost } from './agentHost.ts';
import { ownBuild } from './build.ts';
import type { Desk, DeskAnswers } from './desk.ts';
import type { AgentReport, Fleet, FleetNetwork, FleetTeller } from './fleet.ts';
import { FleetServer } from './fleetServer.ts';
import { hostsToLeaveOut } from './placement.ts';

export interface AgentFleetOptions {
  readonly endpoint: string;
  readonly curve: CurveKeys;
  /** Number by which hosts reach this machine; found out where it is left out. */
  readonly advertise?: string | undefined;
  /** Names of the hosts that are to come, or their number. */
  readonly expected: readonly string[] | number;
  /** How long a start waits for them, seconds. */
  readonly joinSeconds: number;
  /** How long a restart waits for a host in place of a lost one, seconds. */
  readonly replacementSeconds: number;
  /** Whether its hosts do not see the run's directory. */
  readonly collect?: boolean | undefined;
  /** Of what workers of different hosts send each other; encrypted when left out. */
  readonly protection?: Protection | undefined;
  readonly log: (line: string) => void;
}

/** How long a host may take for a sign of life, before workers are started without it, ms. */
const SIGN_OF_LIFE_MS = 3000;

/** How long a host is done without that others do not reach: each try costs the run half a minute, ms. */
const LEFT_OUT_MS = 600_000;

/** How often people are told who is missing, ms. */
const TELL_EVERY_MS = 10_000;

/** How long agents may take to leave, ms. */
const LEAVE_MS = 5000;

/** How long those are waited for that were never there, so that they are told too, ms. */
const LATECOMERS_MS = 30_000;

const LOOK_MS = 50;

export class AgentFleet implements Fleet {
  readonly isHere = false;
  readonly #options: AgentFleetOptions;
  readonly #distrusted = new Set<string>();
  readonly #stopListeners = new Set<(reason: string) => void>();
  #server!: FleetServer;
  #network: FleetNetwork | undefined;
  /** Those on which workers were placed last. */
  #used: readonly AgentHost[] = [];
  /** Those that are done without, and until when, ms of `performance.now()`. */
  readonly #leftOut = new WeakMap<AgentHost, number>();
  /** Hosts that were refused because they would compute something else, by name. */
  readonly #unlike = new Map<string, SluiceError>();
  #stopReason: string | undefined;
  #failed: (() => SluiceError | undefined) | undefined;
  #answers: DeskAnswers | undefined;
  #teller: FleetTeller | undefined;

  static async listen(options: AgentFleetOptions): Promise<AgentFleet> {
    const fleet = new AgentFleet(options);
    fleet.#server = await FleetServer.listen(
      { endpoint: options.endpoint, curve: options.curve, build: ownBuild() },
      {
        joined({ name, address, cores, devices }) {
          fleet.#unlike.delete(name);
          fleet.log(`${name} has joined (${address}, ${cores} cores${gpus(devices)})`);
        },
        lost: ({ name }, reason) => fleet.log(`${name} is lost: ${reason}`),
        refused({ node }, error) {
          if (error.code === 'SLUICE_E_HOST_DIFFERS') fleet.#unlike.set(node, error);
          fleet.log(`${node} was refused: ${error.message}`);
        },
        stop: (reason) => fleet.#stop(reason),
        asked: () => fleet.#answers?.report() ?? {},
      },
    );
    return fleet;
  }

  private constructor(options: AgentFleetOptions) {
    this.#options = options;
  }

  /** Tells people of hosts. */
  readonly log = (line: string): void => {
    if (this.#teller) this.#teller.line(line);
    else this.#options.log(line);
  };

  tellBy(teller: FleetTeller): () => void {
    this.#teller = teller;
    return () => {
      this.#teller = undefined;
    };
  }

  /** Where agents join. */
  get endpoint(): string {
    return this.#server.endpoint;
  }

  get network(): FleetNetwork | undefined {
    return this.#network;
  }

  get collects(): boolean {
    return this.#options.collect ?? false;
  }

  /** In the order of their ranks: as a scheduler numbered them, else by natural order of their names. */
  hosts(): readonly AgentHost[] {
    const now = performance.now();
    return this.#there().filter((host) => !((this.#leftOut.get(host) ?? 0) > now));
  }

  leaveOut(apart: readonly (readonly [string, string])[]): readonly string[] {
    const there = this.hosts();
    const left = hostsToLeaveOut(
      apart,
      there.map(({ name }) => name),
    );
    if (left.length === there.length) return [];
    for (const host of there.filter(({ name }) => left.includes(name))) {
      this.#leftOut.set(host, performance.now() + LEFT_OUT_MS);
    }
    return left;
  }

  #there(): AgentHost[] {
    const place = ({ facts: { nodeRank } }: AgentHost) => nodeRank ?? Number.POSITIVE_INFINITY;
    const trusted = [...this.#server.hosts].filter(({ name }) => !this.#distrusted.has(name));
    return trusted.sort((a, b) => place(a) - place(b) || NATURAL.compare(a.name, b.name) || 0);
  }

  distrust(host: string): boolean {
    if (!this.hosts().some(({ name }) => name !== host)) return false;
    this.#distrusted.add(host);
    return true;
  }

  async assemble(isRestart: boolean, isStopped: () => boolean): Promise<readonly AgentHost[]> {
    if (isRestart) await this.#askForLife();
    const { joinSeconds, replacementSeconds } = this.#options;
    const begun = performance.now();
    const waited = () => performance.now() - begun;
    const isEnough = () => this.missing().length === 0;
    for (let told = TELL_EVERY_MS; !isEnough(); ) {
      const limit = isRestart && this.hosts().length > 0 ? replacementSeconds : joinSeconds;
      if (waited() > limit * 1000) break;
      const failure = this.#unlikeExpected() ?? this.#failed?.();
      if (failure !== undefined && !isRestart) throw failure;
      if (this.#stopReason !== undefined || isStopped()) throw this.#interrupted();
      if (waited() > told) {
        this.log(`waiting for ${this.missing().join(', ')} (${formatDuration(waited() / 1000)})`);
        told += TELL_EVERY_MS;
      }
      this.#teller?.status(
        `waiting for ${this.missing().join(', ')} · ${formatWholeSeconds(waited() / 1000)} · there: ${this.#thereInWords()}`,
      );
      await delay(LOOK_MS);
    }
    this.#teller?.status(undefined);
    const hosts = this.hosts();
    if (hosts.length === 0 || (!isRestart && !isEnough())) throw this.#tooFew(waited());
    if (!isEnough()) this.log(`going on without ${this.missing().join(', ')}`);
    await this.#chooseNetwork(hosts);
    this.#used = hosts;
    return hosts;
  }

  hasNewcomers(): boolean {
    return this.#used.length < this.#wanted() && this.hosts().some((host) => !this.#used.includes(host));
  }

  onStop(listener: (reason: string) => void): () => void {
    this.#stopListeners.add(listener);
    if (this.#stopReason !== undefined) listener(this.#stopReason);
    return () => this.#stopListeners.delete(listener);
  }

  /** Those who ask come where the agents do, and need the same key. */
  async openDesk(answers: DeskAnswers): Promise<Desk> {
    this.#answers = answers;
    const { host, port } = parseEndpoint(this.endpoint);
    const hosts = isUnspecified(host) ? ['127.0.0.1', ...ownAddresses()] : [host];
    return {
      endpoints: hosts.map((one) => formatEndpoint({ host: one, port })),
      curve: this.#options.curve,
      close: () => {
        this.#answers = undefined;
      },
    };
  }

  /** Lets whoever starts the agents say that they will not come. */
  failWith(failed: () => SluiceError | undefined): void {
    this.#failed = failed;
  }

  agents(): AgentReport[] {
    return this.hosts().map(({ name, address, cores, facts, heardAgoMs }) => ({
      ...{ name, address, cores, agent: facts.pid, heardAgoMs },
    }));
  }

  /**
   * Tells all agents how the run has ended.
   * @param whoeverComes whether those are waited for, and told, that something else starts and that have never been there
   */
  async end(code: number, reason: string, whoeverComes = false): Promise<void> {
    const { expected } = this.#options;
    const count = whoeverComes && typeof expected === 'number' ? expected : 0;
    await this.#server.end(code, reason, LEAVE_MS, { count, limitMs: LATECOMERS_MS });
  }

  /** Why a host that is waited for by its name cannot come. */
  #unlikeExpected(): SluiceError | undefined {
    const refused = this.missing().find((name) => this.#unlike.has(name));
    return refused === undefined ? undefined : this.#unlike.get(refused);
  }

  #thereInWords(): string {
    return (
      this.hosts()
        .map(({ name }) => name)
        .join(', ') || 'none'
    );
  }

  #wanted(): number {
    const { expected } = this.#options;
    return typeof expected === 'number' ? expected : expected.length;
  }

  /** In words, whom one waits for. */
  missing(): string[] {
    const { expected } = this.#options;
    const hosts = this.hosts();
    if (typeof expected === 'number') {
      const count = expected - hosts.length;
      return count > 0 ? [`${count} of ${expected} hosts`] : [];
    }
    // Any host will do in place of a lost one.
    if (hosts.length >= expected.length) return [];
    return expected.filter((name) => !hosts.some((host) => host.name === name));
  }

  /** A host that was cut off with its workers shows it only by its silence. */
  async #askForLife(): Promise<void> {
    const asked = this.hosts();
    const heardBefore = asked.map((host) => host.timesHeard);
    this.#server.beat();
    const begun = performance.now();
    const isSilent = (host: AgentHost, i: number) =>
      host.gone === undefined && host.timesHeard === heardBefore[i];
    while (asked.some(isSilent) && performance.now() - begun < SIGN_OF_LIFE_MS) await delay(LOOK_MS);
    for (const host of asked.filter(isSilent)) this.#server.lose(host, 'it gives no sign of life');
  }

  async #chooseNetwork(hosts: readonly AgentHost[]): Promise<void> {
    if (this.#network !== undefined) return;
    const bound = parseEndpoint(this.endpoint).host;
    const remote = hosts.find(({ address }) => !isLoopback(address));
    const address =
      this.#options.advertise ??
      (isUnspecified(bound) ? await addressTowards((remote ?? hosts[0]!).address) : bound);
    const local = hosts.filter((host) => isLoopback(host.address));
    if (remote && local.length > 0) {
      throw new SluiceError(
        'SLUICE_E_ADDRESS_UNREACHABLE',
        `${local.map(({ name }) => name).join(', ')} would be reached by ${local[0]!.address}, which means every host to itself; ${remote.name} could not reach it.`,
        { details: { hosts: hosts.map((host) => ({ name: host.name, address: host.address })) } },
      );
    }
    const { curve, protection = 'encrypted' } = this.#options;
    this.#network = { address, curve, protection };
    if (protection === 'authenticated')
      this.log('what workers of different hosts send each other is authenticated, not encrypted');
  }

  #stop(reason: string): void {
    if (this.#stopReason !== undefined) return;
    this.#stopReason = reason;
    this.log(`asked to stop by ${reason}`);
    for (const listener of this.#stopListeners) listener(reason);
  }

  #interrupted(): SluiceError {
    return new SluiceError(
      'SLUICE_E_INTERRUPTED',
      `Asked to stop by ${this.#stopReason ?? 'a signal'} before all hosts had come.`,
    );
  }

  #tooFew(waitedMs: number): SluiceError {
    const there = this.hosts().map(({ name }) => name);
    return new SluiceError(
      'SLUICE_E_HOSTS_TOO_FEW',
      `Waited ${formatDuration(waitedMs / 1000)} at ${formatEndpoint(parseEndpoint(this.endpoint))}; missing: ${this.missing().join(', ') || 'all hosts'}; there: ${there.join(', ') || 'none'}.`,
      { details: { missing: this.missing(), there } },
    );
  }
}

const NATURAL = new Intl.Collator('en', { numeric: true });

function gpus(devices: readonly unknown[]): string {
  return devices.length === 0 ? '' : `, ${devices.length} GPUs`;
}
