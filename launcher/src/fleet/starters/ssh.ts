/**
 * Starts an agent on each host through the system's ssh, whose keys and configuration are the user's. The agent's secrets and
 * its place come by its standard input, which is its lifeline too: it ends when this process does.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { CurveKeys } from '@sluice/collectives';
import { SluiceError } from '@sluice/core';
import { PROGRAM } from '../../program.ts';
import type { Incarnation } from '../../run/incarnation.ts';
import { shellQuote } from '../../run/runDirectory.ts';
import { EXIT_CONFIGURATION } from '../exitCode.ts';
import { nodeName, type SshHost } from '../hostFile.ts';

export interface SshPlan {
  readonly hosts: readonly SshHost[];
  readonly join: string;
  readonly curve: CurveKeys;
  readonly incarnation: Incarnation;
  /** Variables of the agents' environment; anybody on their hosts may read them. */
  readonly environment: Readonly<Record<string, string>>;
  /** Further words of the agents' command line. */
  readonly words?: readonly string[];
  /** The program and its first words; `ssh` when left out. */
  readonly command?: readonly string[];
  readonly log: (line: string) => void;
}

/**
 * A shared connection outlives the ssh that was told to end, and hides it; a terminal mixes the streams. Signals of the
 * terminal are for this process.
 */
const OPTIONS = [
  ...['BatchMode=yes', 'ConnectTimeout=10', 'ServerAliveInterval=15', 'ServerAliveCountMax=3'],
  ...['ControlMaster=no', 'ControlPath=none'],
].flatMap((option) => ['-o', option]);

/** sshd refuses some of many connections that begin at once (MaxStartups 10:30:100). */
const AT_ONCE = 8;

/** Exit code of ssh itself, whatever the matter. */
const SSH_FAILED = 255;

const TRIES = 4;

const LONGEST_PAUSE_MS = 60_000;

/** What ssh says last, and what it means. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/permission denied/i, 'no key of yours is accepted there: try `ssh HOST true`'],
  [/host key verification failed/i, 'its key is not the known one: log in once by hand'],
  [/could not resolve|name or service not known/i, 'its name does not resolve here'],
  [/connection refused/i, 'no ssh server listens there'],
  [/timed out|no route to host|network is unreachable/i, 'it cannot be reached'],
  [
    /command not found|no such file|not found/i,
    'Node or Sluice is not where it is looked for: set node= and sluice= in the file of hosts',
  ],
];

/** What starts an agent. */
export const AGENT_WORDS = ['agent', '--stdio'] as const;

export interface RemoteCommand {
  /** Of `sluice`; an agent's when left out. */
  readonly words?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** The words that are executed for a host, for people to see as well. */
export function sshWords(
  { name, node = 'node', sluice = PROGRAM }: SshHost,
  command: readonly string[] = ['ssh'],
  { words = AGENT_WORDS, environment = {} }: RemoteCommand = {},
): string[] {
  const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
  const env = variables.length === 0 ? [] : ['env', ...variables];
  const remote = ['exec', ...[...env, node, sluice, ...words].map(shellQuote)].join(' ');
  return [...command, ...OPTIONS, '-T', '--', name, remote];
}

export class SshStarter {
  readonly #plan: SshPlan;
  readonly #children = new Set<ChildProcess>();
  /** How often agents have been started anew. */
  readonly #restarts = new Map<string, number>();
  #failure: SluiceError | undefined;
  #isEnding = false;

  constructor(plan: SshPlan) {
    this.#plan = plan;
  }

  /** Why a host will not come; undefined as long as all may. */
  get failure(): SluiceError | undefined {
    return this.#failure;
  }

  /** Starts all agents; what becomes of them shows in who joins. */
  start(): void {
    const waiting = this.#plan.hosts.entries();
    const startNext = async () => {
      for (const [rank, host] of waiting) await this.#start(host, rank);
    };
    for (let i = 0; i < AT_ONCE; i++) void startNext();
  }

  /** Ends the lifelines of all agents, and then what has not ended by itself. */
  async end(): Promise<void> {
    this.#isEnding = true;
    for (const child of this.#children) child.stdin?.end();
    for (let waited = 0; this.#children.size > 0 && waited < 3000; waited += 50) await delay(50);
    for (const child of this.#children) child.kill('SIGKILL');
  }

  /** Starts an agent anew, each time after a longer pause: its host may be on its way back. */
  async #startAgain(host: SshHost, rank: number, ended: Promise<Failure>): Promise<void> {
    const { code, how, said } = await ended;
    if (this.#isEnding) return;
    if (code === EXIT_CONFIGURATION) this.#failure ??= endedForGood(host, how, said);
    this.#plan.log(
      `[${host.name}] its agent has ended (${how}${said === '' ? '' : `: ${said}`}); starting it anew`,
    );
    const tries = (this.#restarts.get(host.name) ?? 0) + 1;
    this.#restarts.set(host.name, tries);
    await delay(Math.min(500 * 2 ** tries, LONGEST_PAUSE_MS));
    if (!this.#isEnding) await this.#start(host, rank);
  }

  /** Resolves once the connection stands or has failed. */
  async #start(host: SshHost, rank: number): Promise<void> {
    for (let tries = 1; !this.#isEnding; tries++) {
      const { stands, ended } = this.#spawn(host, rank);
      const failure = await Promise.race([stands, ended]);
      if (failure === undefined) {
        void this.#startAgain(host, rank, ended);
        return;
      }
      if (tries === TRIES || failure.code !== SSH_FAILED || !/reset|closed by|exchange/i.test(failure.said)) {
        const error = notStarted(host, failure);
        this.#failure ??= error;
        this.#plan.log(error.message);
        if (this.#restarts.has(host.name)) void this.#startAgain(host, rank, ended);
        return;
      }
      await delay(200 * 2 ** tries);
    }
  }

  #spawn(host: SshHost, rank: number): { stands: Promise<undefined>; ended: Promise<Failure> } {
    const { join, curve, incarnation, environment, command, words: further = [], log } = this.#plan;
    const [program, ...words] = sshWords(host, command, { words: [...AGENT_WORDS, ...further], environment });
    // In a process group of its own, so that Ctrl-C does not end it before the run has been saved.
    const child = spawn(program!, words, { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
    this.#children.add(child);
    let said = '';
    let stood!: (_: undefined) => void;
    const stands = new Promise<undefined>((resolve) => {
      stood = resolve;
    });
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface({ input: stream }).on('line', (line) => {
        if (line.startsWith(AGENT_BEGINS)) stood(undefined);
        else said = line;
        if (!line.startsWith(AGENT_BEGINS)) log(`[${host.name}] ${line}`);
      });
    }
    child.stdin!.on('error', () => {});
    const [start, restarts] = [incarnation[0], incarnation[1] + (this.#restarts.get(host.name) ?? 0)];
    const place = { join, curve, incarnation: [start, restarts], nodeRank: rank, node: nodeName(host) };
    child.stdin!.write(
      `${JSON.stringify({ ...place, ...(host.slots && { slots: host.slots }), ...(host.address && { advertise: host.address }) })}\n`,
    );
    const ended = new Promise<Failure>((resolve) => {
      onceEnded(child, (end) => resolve({ ...end, said }));
    });
    void ended.then(() => this.#children.delete(child));
    return { stands, ended };
  }
}

/** How a program that was to reach a host ended. */
export interface SshEnd {
  readonly code: number | null;
  /** In words. */
  readonly how: string;
  /** Whether it is not there to be started on this machine, so that no host is to blame. */
  readonly isMissing: boolean;
}

interface Failure extends SshEnd {
  readonly said: string;
}

/** Tells once how a program has ended, or that it never began. */
export function onceEnded(child: ChildProcess, tell: (end: SshEnd) => void): void {
  child.once('error', (error: NodeJS.ErrnoException) =>
    tell({
      code: null,
      how: `${error.path ?? 'the program'} cannot be started here: ${error.code}`,
      isMissing: true,
    }),
  );
  child.once('close', (code, signal) =>
    tell({ code, how: signal === null ? `exit code ${code}` : `ended by ${signal}`, isMissing: false }),
  );
}

/** Why a program did not do on a host what it was to, in words. */
export function sshFailureText({ how, isMissing }: SshEnd, said: string): string {
  return isMissing ? how : `${sshFailureReason(said)} (${how}). It said: ${said || 'nothing'}`;
}

/** First line of an agent that was started by ssh, by which one knows that it was. */
export const AGENT_BEGINS = 'sluice agent begins';

/** What became of a program that ssh was to start, in words. */
function sshFailureReason(said: string): string {
  return REASONS.find(([pattern]) => pattern.test(said))?.[1] ?? 'see what it said';
}

/** An agent that says that it would end so again: a start waits for it in vain, while a run that goes on may see its host mended. */
function endedForGood({ name }: SshHost, how: string, said: string): SluiceError {
  return new SluiceError('SLUICE_E_SSH_FAILED', `${name}: its agent has ended (${how}): ${said}`, {
    details: { host: name, exitCode: EXIT_CONFIGURATION, said },
  });
}

function notStarted({ name }: SshHost, { said, ...end }: Failure): SluiceError {
  return new SluiceError(
    'SLUICE_E_SSH_FAILED',
    `${name}: the agent could not be started by ssh: ${sshFailureText(end, said)}`,
    { details: { host: name, exitCode: end.code, said } },
  );
}
