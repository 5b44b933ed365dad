/**
 * Several hosts on one Linux machine, as root: each with its own address, name, processes and /dev/shm, and an sshd. They share
 * the file system, as the nodes of a cluster do, and the machine's clock and cores. They can lose packets, their cable, power, or
 * stand still. All of a lab's names have the lab's own prefix; its hosts end with the process that made it, whatever ends that.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Ended, type Running, watchProcess } from '../../support/running.ts';
import { Freezer } from './freezer.ts';
import { labFolder, newPrefix, removeLeftovers } from './leftovers.ts';
import { type AddressFamily, LabNetwork } from './network.ts';
import { writeSshFiles } from './ssh.ts';

const INIT = fileURLToPath(new URL('init.sh', import.meta.url));

interface Host {
  readonly freezer: Freezer;
  /** Starts the host's first process, and ends it with its own end. */
  readonly holder: ChildProcess;
  /** The host's first process, by its number outside. */
  readonly init: number;
}

export interface ProcessInHost {
  /** Its number outside of the host, which signals can be sent to. */
  readonly pid: number;
  readonly command: string;
}

interface ExecOptions {
  readonly cwd?: string;
  readonly environment?: NodeJS.ProcessEnv;
}

export class Lab {
  /** Keys, configurations and logs: `ssh_config`, `h1.log`, `h1.sshd.log`. */
  readonly folder: string;
  readonly names: readonly string[];
  /** What the names of all that it makes in the system begin with. */
  readonly prefix = newPrefix();
  readonly #network: LabNetwork;
  readonly #hosts = new Map<string, Host>();

  private constructor(count: number, family: AddressFamily) {
    this.#network = new LabNetwork(this.prefix, family);
    this.names = Array.from({ length: count }, (_, i) => `h${i + 1}`);
    this.folder = labFolder(this.prefix);
    mkdirSync(this.folder, { mode: 0o700 });
    const lines = this.names.map((name) => `${this.addressOf(name)} ${name}`);
    writeFileSync(
      join(this.folder, 'hosts'),
      ['127.0.0.1 localhost', '::1 localhost', ...lines, ''].join('\n'),
    );
    writeSshFiles(this.folder, new Map(this.names.map((name) => [name, this.addressOf(name)])));
  }

  /** Hosts `h1`, `h2`, …, which all reach each other. What labs of dead processes have left is removed first. */
  static async up(count: number, family: AddressFamily = 'IPv4'): Promise<Lab> {
    await removeLeftovers();
    const lab = new Lab(count, family);
    try {
      lab.#network.up();
      for (const name of lab.names) await lab.boot(name);
      return lab;
    } catch (error) {
      await lab.down();
      throw error;
    }
  }

  async down(): Promise<void> {
    for (const name of [...this.#hosts.keys()]) await this.shutdown(name);
    this.#network.down(this.names);
    rmSync(this.folder, { recursive: true, force: true });
  }

  addressOf(name: string): string {
    return this.#network.addressOf(name);
  }

  // Programs.

  /** Starts a program in a host. Signals are for what `processes` lists: the child is only its messenger. */
  start(name: string, command: readonly string[], { cwd, environment }: ExecOptions = {}): Running {
    const { freezer, init } = this.#host(name);
    const inside = [
      'nsenter',
      '-t',
      String(init),
      '-m',
      '-u',
      '-i',
      '-n',
      '-p',
      `--wd=${cwd ?? process.cwd()}`,
    ];
    const join = ['-c', 'echo 0 > "$0" && exec "$@"', freezer.processes, ...inside, '--', ...command];
    const env = { ...process.env, ...environment };
    return watchProcess(spawn('sh', join, { env, stdio: ['ignore', 'pipe', 'pipe'] }));
  }

  exec(name: string, command: readonly string[], options: ExecOptions = {}): Promise<Ended> {
    return this.start(name, command, options).ended;
  }

  /** What runs in a host, but for what makes it one: its first process and its sshd. */
  processes(name: string): ProcessInHost[] {
    const host = this.#hosts.get(name);
    if (!host) return [];
    return processesLike(host.init).filter(
      ({ pid, command }) => pid !== host.init && !command.includes(join(this.folder, name)),
    );
  }

  // Faults of a host's network.

  /** Its cable is cut: nothing arrives, neither side is told. */
  cut(name: string): void {
    this.#network.cut(name);
  }

  heal(name: string): void {
    this.#network.heal(name);
  }

  separate(one: string, other: string): void {
    this.#network.separate(one, other);
  }

  reunite(one: string, other: string): void {
    this.#network.reunite(one, other);
  }

  /** @param percent of the packets to it are dropped */
  loss(name: string, percent: number): void {
    this.#network.loss(name, percent);
  }

  /** @param megabits a second, each way; 0: no limit */
  rate(name: string, megabits: number): void {
    this.#network.rate(name, megabits);
  }

  // Faults of a host.

  /** Stops all its processes at one moment, while its kernel goes on acknowledging what arrives. */
  freeze(name: string): void {
    this.#host(name).freezer.freeze();
  }

  thaw(name: string): void {
    this.#host(name).freezer.thaw();
  }

  /** Power cut: all ends, and nothing is sent. */
  async crash(name: string): Promise<void> {
    this.#network.cut(name);
    await this.shutdown(name);
    this.#network.removeHost(name);
  }

  /** All its processes are killed, and its kernel tells their peers. */
  async shutdown(name: string): Promise<void> {
    const host = this.#host(name);
    host.freezer.thaw();
    const gone = new Promise((resolve) => host.holder.once('close', resolve));
    // Once it has ended, so have all processes of the host.
    process.kill(host.init, 'SIGKILL');
    await gone;
    await host.freezer.remove();
    this.#hosts.delete(name);
  }

  /** Starts a host, for the first time or after its end, with the same address. */
  async boot(name: string): Promise<void> {
    this.#network.removeHost(name);
    this.#network.addHost(name);
    const freezer = new Freezer(`${this.prefix}-${name}`);
    const namespaces = ['unshare', '--pid', '--fork', '--mount', '--uts', '--ipc', '--mount-proc'];
    const holder = spawn(
      'nsenter',
      [
        ...[`--net=/run/netns/${this.#network.namespaceOf(name)}`, ...namespaces, '--kill-child=KILL'],
        ...['bash', INIT, name, this.folder, freezer.processes],
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    await ready(holder, name);
    this.#hosts.set(name, { freezer, holder, init: childOf(holder.pid!) });
  }

  #host(name: string): Host {
    const host = this.#hosts.get(name);
    if (!host) throw new Error(`${name} is down`);
    return host;
  }
}

function ready(holder: ChildProcess, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let errors = '';
    holder.stderr!.on('data', (chunk) => {
      errors += chunk;
    });
    holder.stdout!.on('data', (chunk) => {
      if (String(chunk).includes('ready')) resolve();
    });
    holder.once('close', (code) => reject(new Error(`${name} did not start (${code}): ${errors}`)));
  });
}

function childOf(parent: number): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'latin1').trim().split(' ');
  if (children.length !== 1 || !children[0]) throw new Error(`${parent} has no one child`);
  return Number(children[0]);
}

/** The processes that see the same process numbers as `pid`. */
function processesLike(pid: number): ProcessInHost[] {
  const space = spaceOf(pid);
  if (space === undefined) return [];
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && spaceOf(Number(entry)) === space)
    .flatMap((entry) => {
      try {
        const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        // One that has ended, and whose parent has not looked yet, has no words any more.
        return command === '' ? [] : [{ pid: Number(entry), command }];
      } catch {
        return [];
      }
    });
}

function spaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}
