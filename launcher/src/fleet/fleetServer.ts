/**
 * The coordinator's end of its agents: who is there, and which of two that call themselves alike is the later one. Everything
 * is encrypted, and nobody without the run's key is answered.
 */

import type { CurveKeys } from '@sluice/collectives';
import {
  Authenticator,
  type ErrorData,
  errorToData,
  listenAt,
  listenerSecurity,
  type Message,
  Outbox,
  receiveAll,
} from '@sluice/collectives/control';
import { SluiceError } from '@sluice/core';
import { Context, Router } from 'zeromq';
import { isLater } from '../run/incarnation.ts';
import { AgentHost } from './agentHost.ts';
import { refuseOtherBuild } from './build.ts';
import { STOPPED_BY_COMMAND } from './desk.ts';
import {
  type AgentFacts,
  type AgentMessages,
  BEAT_MS,
  type Build,
  type CoordinatorMessages,
  decodeFromAgent,
  encodeFromCoordinator,
  MAX_FLEET_BYTES,
} from './protocol.ts';

export interface FleetServerOptions {
  /** Where agents come: `tcp://ADDRESS:PORT`; port 0 is a free one. */
  readonly endpoint: string;
  readonly curve: CurveKeys;
  /** What agents must run to be let in. */
  readonly build: Build;
}

/** What happens, for whoever keeps the hosts in order. */
export interface FleetEvents {
  joined(host: AgentHost): void;
  lost(host: AgentHost, reason: string): void;
  /** An agent was refused. */
  refused(facts: AgentFacts, error: SluiceError): void;
  /** Somebody wants the run saved and stopped. */
  stop(reason: string): void;
  /** @returns what is told of the run, as JSON */
  asked(): Record<string, unknown>;
}

interface Member {
  readonly identity: Buffer;
  readonly host: AgentHost;
}

export class FleetServer {
  /** Where the server listens. */
  readonly endpoint: string;
  readonly #router: Router;
  readonly #authenticator: Authenticator;
  readonly #build: Build;
  readonly #events: FleetEvents;
  /** By the name of the node. */
  readonly #members = new Map<string, Member>();
  /** The latest incarnation of each node that was ever there. */
  readonly #incarnations = new Map<string, AgentFacts['incarnation']>();
  /** A peer that takes no message is left to its heartbeat. */
  readonly #outbox = new Outbox<[Buffer, Buffer]>((frames) => this.#router.send(frames), 'drop');
  readonly #heartbeat: NodeJS.Timeout;
  #ending: CoordinatorMessages['end'] | undefined;
  #onLeft: () => void = () => {};

  /** Starts to listen. @throws SLUICE_E_PORT_TAKEN */
  static async listen(options: FleetServerOptions, events: FleetEvents): Promise<FleetServer> {
    const context = new Context();
    const authenticator = await Authenticator.start(context, options.curve);
    const router = new Router({
      context,
      ...listenerSecurity(options.curve),
      maxMessageSize: MAX_FLEET_BYTES,
      // An agent that connects anew keeps its identity, and takes the place of its broken connection.
      handover: true,
      linger: 1000,
      sendTimeout: 5000,
      tcpKeepalive: 1,
      tcpKeepaliveIdle: 10,
      tcpKeepaliveInterval: 5,
      tcpKeepaliveCount: 3,
    });
    let endpoint: string;
    try {
      endpoint = await listenAt(router, options.endpoint);
    } catch (error) {
      router.close();
      authenticator.close();
      throw error;
    }
    return new FleetServer(options, events, router, endpoint, authenticator);
  }

  private constructor(
    options: FleetServerOptions,
    events: FleetEvents,
    router: Router,
    endpoint: string,
    authenticator: Authenticator,
  ) {
    this.endpoint = endpoint;
    this.#build = options.build;
    this.#events = events;
    this.#router = router;
    this.#authenticator = authenticator;
    this.#heartbeat = setInterval(() => this.beat(), BEAT_MS);
    void receiveAll(router, (identity, frame) => {
      if (identity !== undefined && frame !== undefined) this.#receive(identity, frame);
    });
  }

  get hosts(): readonly AgentHost[] {
    return [...this.#members.values()].map(({ host }) => host);
  }

  /** Asks every agent for a sign of life. */
  beat(): void {
    for (const { host, identity } of [...this.#members.values()]) {
      if (this.#ending) this.#send(identity, 'end', this.#ending);
      host.beat();
      if (host.gone !== undefined) this.#remove(host, host.gone);
    }
  }

  /** Takes a host for lost. */
  lose(host: AgentHost, reason: string): void {
    host.lose(reason);
    this.#remove(host, reason);
  }

  /**
   * Tells all agents to end with an exit code, and resolves once they have left, or after `limitMs`.
   * @param awaited how many are waited for that were never there, and how long
   */
  async end(
    code: number,
    reason: string,
    limitMs: number,
    awaited: { readonly count: number; readonly limitMs: number } = { count: 0, limitMs: 0 },
  ): Promise<void> {
    this.#ending = { code, reason };
    const areThere = () => this.#incarnations.size >= awaited.count;
    const left = new Promise<void>((resolve) => {
      this.#onLeft = () => {
        if (this.#members.size === 0 && areThere()) resolve();
      };
    });
    this.beat();
    this.#onLeft();
    const limit = AbortSignal.timeout(areThere() ? limitMs : awaited.limitMs);
    await Promise.race([left, new Promise((resolve) => limit.addEventListener('abort', resolve))]);
    clearInterval(this.#heartbeat);
    await this.#outbox.emptied();
    this.#router.close();
    this.#authenticator.close();
  }

  #receive(identity: Buffer, frame: Buffer): void {
    let message: Message<AgentMessages> | undefined;
    try {
      message = decodeFromAgent(frame);
    } catch (error) {
      this.#refuse(identity, error);
      return;
    }
    if (message === undefined) return;
    if (message.kind === 'join') this.#welcome(identity, message.body);
    else if (message.kind === 'ask') this.#answer(identity, message.body.what);
    else this.#take(identity, message);
  }

  #take(identity: Buffer, message: Message<Omit<AgentMessages, 'join' | 'ask'>>): void {
    const member = [...this.#members.values()].find((one) => one.identity.equals(identity));
    if (member === undefined) {
      if (message.kind !== 'left') this.#send(identity, 'unknown', {});
      return;
    }
    const { host } = member;
    host.heard();
    switch (message.kind) {
      case 'beat':
        host.compare(message.body.heard, message.body.workers);
        break;
      case 'output':
        host.output(message.body.id, message.body.line);
        break;
      case 'ended':
        host.ended(message.body.id, message.body);
        break;
      case 'files':
        host.files.answer(message.body);
        break;
      case 'stop':
        this.#events.stop(`${host.name}: ${message.body.reason}`);
        break;
      case 'left':
        this.lose(host, message.body.reason);
        break;
    }
  }

  #welcome(identity: Buffer, facts: AgentFacts): void {
    const there = this.#members.get(facts.node);
    if (there?.host.facts.session === facts.session) {
      // It has not heard that it was let in, or its connection was broken.
      this.#members.set(facts.node, { identity, host: there.host });
      there.host.heard();
      this.#send(identity, 'welcome', {});
      return;
    }
    try {
      refuseOtherBuild(facts.node, facts.build, this.#build);
      this.#refuseOlder(facts, there?.host);
    } catch (error) {
      this.#events.refused(facts, error as SluiceError);
      this.#refuse(identity, error);
      return;
    }
    if (there) {
      there.host.lose('a later agent of the same node has taken its place');
      this.#send(there.identity, 'end', { code: 1, reason: 'a later agent of this node has joined' });
      this.#remove(there.host, there.host.gone!);
    }
    const host = new AgentHost(facts, (kind, body) => {
      const member = this.#members.get(facts.node);
      if (member?.host === host) this.#send(member.identity, kind, body);
    });
    this.#incarnations.set(facts.node, facts.incarnation);
    this.#members.set(facts.node, { identity, host });
    this.#send(identity, 'welcome', {});
    this.#events.joined(host);
  }

  /** @throws SLUICE_E_INCARNATION_OLD, SLUICE_E_NODE_NAME_TAKEN */
  #refuseOlder({ node, incarnation, machine }: AgentFacts, there: AgentHost | undefined): void {
    const latest = this.#incarnations.get(node);
    if (latest !== undefined && isLater(latest, incarnation)) {
      throw new SluiceError(
        'SLUICE_E_INCARNATION_OLD',
        `An agent of ${node} wants to join as incarnation ${incarnation.join('.')}, but ${latest.join('.')} has been there.`,
        { details: { node, incarnation, latest } },
      );
    }
    if (there !== undefined && there.facts.machine !== machine && !isLater(incarnation, latest!)) {
      throw new SluiceError('SLUICE_E_NODE_NAME_TAKEN', `Another machine has joined as ${node}.`, {
        details: { node },
      });
    }
  }

  #remove(host: AgentHost, reason: string): void {
    if (this.#members.get(host.name)?.host !== host) return;
    this.#members.delete(host.name);
    if (!this.#ending) this.#events.lost(host, reason);
    this.#onLeft();
  }

  #answer(identity: Buffer, what: AgentMessages['ask']['what']): void {
    if (what === 'stop') this.#events.stop(STOPPED_BY_COMMAND);
    this.#send(identity, 'told', { answer: this.#events.asked() });
  }

  #refuse(identity: Buffer, error: unknown): void {
    const data: ErrorData = errorToData(error, 'the coordinator');
    this.#send(identity, 'refused', { error: { ...data, details: { ...data.details } } });
  }

  #send<Kind extends keyof CoordinatorMessages>(
    identity: Buffer,
    kind: Kind,
    body: CoordinatorMessages[Kind],
  ): void {
    this.#outbox.push([identity, encodeFromCoordinator(kind, body)]);
  }
}
