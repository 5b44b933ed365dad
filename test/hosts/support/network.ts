/**
 * Hosts' network: each host's namespace is connected by a cable, a pair of virtual interfaces, to a switch, a bridge in a namespace
 * of its own. So nothing outside of a lab reaches it, and nothing leaves it, though all labs use the same addresses.
 */

import { attempt, run } from './run.ts';

/** Which addresses hosts have. */
export type AddressFamily = 'IPv4' | 'IPv6';

export class LabNetwork {
  readonly #prefix: string;
  readonly #family: AddressFamily;
  readonly #losses = new Map<string, number>();

  /** @param prefix of all names in the system that belong to this lab */
  constructor(prefix: string, family: AddressFamily) {
    this.#prefix = prefix;
    this.#family = family;
  }

  get #switch(): string {
    return `${this.#prefix}-switch`;
  }

  namespaceOf(host: string): string {
    return `${this.#prefix}-${host}`;
  }

  /** One of the ranges that RFC 2544 and RFC 5180 set aside for benchmarks: `h2` is 198.18.0.2, or 2001:2::2. */
  addressOf(host: string): string {
    return `${this.#family === 'IPv4' ? '198.18.0.' : '2001:2::'}${host.slice(1)}`;
  }

  up(): void {
    run('ip', 'netns', 'add', this.#switch);
    this.#atSwitch('link', 'add', 'bridge', 'type', 'bridge');
    this.#atSwitch('link', 'set', 'bridge', 'up');
  }

  addHost(host: string): void {
    const namespace = this.namespaceOf(host);
    const inHost = (...args: string[]) => run('ip', '-n', namespace, ...args);
    run('ip', 'netns', 'add', namespace);
    const ends = ['type', 'veth', 'peer', 'name', host, 'netns', this.#switch];
    // The same after every boot, so that its neighbours still know it.
    const hardware = `02:00:00:00:00:${host.slice(1).padStart(2, '0')}`;
    run('ip', 'link', 'add', 'eth0', 'netns', namespace, 'address', hardware, ...ends);
    this.heal(host);
    inHost('link', 'set', 'lo', 'up');
    const [bits, more] = this.#family === 'IPv4' ? [24, []] : [48, ['nodad']];
    inHost('addr', 'add', `${this.addressOf(host)}/${bits}`, 'dev', 'eth0', ...more);
    inHost('link', 'set', 'eth0', 'up');
  }

  removeHost(host: string): void {
    this.#losses.delete(host);
    attempt('ip', '-n', this.#switch, 'link', 'del', host);
    attempt('ip', 'netns', 'del', this.namespaceOf(host));
  }

  down(hosts: readonly string[]): void {
    for (const host of hosts) this.removeHost(host);
    attempt('ip', 'netns', 'del', this.#switch);
  }

  /** Takes the cable out at the switch, which the host does not see. */
  cut(host: string): void {
    this.#atSwitch('link', 'set', host, 'nomaster');
  }

  heal(host: string): void {
    this.#atSwitch('link', 'set', host, 'master', 'bridge', 'up');
  }

  /** Packets between two hosts vanish, both ways. */
  separate(one: string, other: string): void {
    this.#filter(one, '-I', '-s', this.addressOf(other), '-j', 'DROP');
    this.#filter(other, '-I', '-s', this.addressOf(one), '-j', 'DROP');
  }

  reunite(one: string, other: string): void {
    this.#filter(one, '-D', '-s', this.addressOf(other), '-j', 'DROP');
    this.#filter(other, '-D', '-s', this.addressOf(one), '-j', 'DROP');
  }

  /** Drops that share of the packets that come to the host; 0 drops none. */
  loss(host: string, percent: number): void {
    const rule = (share: number) => {
      const probability = ['--probability', String(share / 100)];
      return ['-i', 'eth0', '-m', 'statistic', '--mode', 'random', ...probability, '-j', 'DROP'];
    };
    const before = this.#losses.get(host) ?? 0;
    if (before > 0) this.#filter(host, '-D', ...rule(before));
    if (percent > 0) this.#filter(host, '-A', ...rule(percent));
    this.#losses.set(host, percent);
  }

  /** Limits what the host sends and gets, in Mbit/s; 0 takes the limit away. */
  rate(host: string, megabits: number): void {
    const ends = [
      ['-n', this.namespaceOf(host), 'qdisc'],
      ['-n', this.#switch, 'qdisc'],
    ];
    for (const [i, end] of ends.entries()) {
      const device = i === 0 ? 'eth0' : host;
      attempt('tc', ...end, 'del', 'dev', device, 'root');
      if (megabits === 0) continue;
      // As much as is sent in 4 ms, and a few packets at least.
      const burst = Math.max(16_384, Math.round((megabits * 1e6) / 8 / 250));
      const limit = ['rate', `${megabits}mbit`, 'burst', String(burst), 'latency', '50ms'];
      run('tc', ...end, 'add', 'dev', device, 'root', 'tbf', ...limit);
    }
  }

  #filter(host: string, action: '-A' | '-D' | '-I', ...rule: string[]): void {
    const tables = this.#family === 'IPv4' ? 'iptables' : 'ip6tables';
    const command = [tables, '-w', action, 'INPUT', ...rule];
    run('ip', 'netns', 'exec', this.namespaceOf(host), ...command);
  }

  #atSwitch(...args: string[]): void {
    run('ip', '-n', this.#switch, ...args);
  }
}
