/**
 * A Kubernetes cluster in the hosts of a lab, out of Kubernetes' own programs and Debian's etcd, containerd and runc: the control
 * plane in the first host, a kubelet in each of the others. Pods of different nodes reach each other by routes between the hosts.
 * All of it ends with the lab.
 */

import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Lab } from '../../../hosts/support/lab.ts';
import { run } from '../../../hosts/support/run.ts';
import type { Ended } from '../../../support/running.ts';
import { until } from '../../../support/until.ts';
import { makeImage } from './image.ts';
import { containerdConfig, kubeletConfig, podNetwork, podSubnet, SYSCTLS } from './nodeFiles.ts';

const NAME_SERVER = fileURLToPath(new URL('nameServer.ts', import.meta.url));
const CONTROL = 'h1';
/** Seconds without a word after which a node counts as out of reach; 50 unless it is said. */
const NODE_GRACE_SECONDS = 20;
/** Control groups of the pods, which no host owns. */
const GROUPS = '/sys/fs/cgroup';

export class Cluster {
  readonly lab: Lab;
  readonly nodes: readonly string[];
  readonly #programs: string;
  readonly #token = randomBytes(16).toString('hex');

  private constructor(lab: Lab, programs: string) {
    this.lab = lab;
    this.nodes = lab.names.slice(1);
    this.#programs = programs;
  }

  /**
   * @param nodes hosts with a kubelet, beside the one of the control plane
   * @param programs folder of kube-apiserver, kube-controller-manager, kube-scheduler, kubelet and kubectl
   */
  static async up(nodes: number, programs: string): Promise<Cluster> {
    const cluster = new Cluster(await Lab.up(nodes + 1), programs);
    try {
      await cluster.#startControlPlane();
      for (const node of cluster.nodes) await cluster.#startNode(node);
      await until('all nodes are ready', async () => {
        const { stdout } = await cluster.kubectl('get', 'nodes', '--no-headers');
        return (stdout.match(/ Ready /g) ?? []).length === nodes;
      });
      return cluster;
    } catch (error) {
      await cluster.down();
      throw error;
    }
  }

  async down(): Promise<void> {
    await this.lab.down();
    removeGroups(this.#groups);
  }

  /** What programs in the control plane's host need to reach the cluster. */
  get environment(): NodeJS.ProcessEnv {
    return { KUBECONFIG: this.#at('kubeconfig'), PATH: `${this.#programs}:${process.env.PATH}` };
  }

  kubectl(...words: string[]): Promise<Ended> {
    return this.lab.exec(CONTROL, ['kubectl', ...words], { environment: this.environment });
  }

  /** @returns the resource as the API server has it */
  async get<T>(...words: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.kubectl('get', ...words, '--output', 'json');
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as T;
  }

  #at(...names: string[]): string {
    return join(this.lab.folder, 'kubernetes', ...names);
  }

  get #server(): string {
    return `https://${this.lab.addressOf(CONTROL)}:6443`;
  }

  /** Name of the pods' control groups, unlike any other lab's. */
  get #groups(): string {
    return `${this.lab.prefix}-pods`;
  }

  /** Starts a program of the cluster; what it writes is in `kubernetes/HOST.PROGRAM.log`. */
  #start(host: string, program: string, ...words: string[]): void {
    const log = this.#at(`${host}.${basename(program)}.log`);
    const inPath = `export PATH=${this.#programs}:$PATH;`;
    this.lab.start(host, ['sh', '-c', `${inPath} exec "$@" > ${log} 2>&1`, 'sh', program, ...words]);
  }

  async #startControlPlane(): Promise<void> {
    const address = this.lab.addressOf(CONTROL);
    mkdirSync(this.#at('image'), { recursive: true });
    makeImage(this.#at('image'));
    run('openssl', 'genrsa', '-out', this.#at('account.key'), '2048');
    writeFileSync(this.#at('tokens'), `${this.#token},admin,admin,system:masters\n`, { mode: 0o600 });
    writeFileSync(this.#at('kubeconfig'), JSON.stringify(this.#kubeconfig()), { mode: 0o600 });
    const client = 'http://127.0.0.1:2379';
    this.#start(
      CONTROL,
      'etcd',
      ...[`--data-dir=${this.#at('etcd')}`, `--listen-client-urls=${client}`],
      ...[`--advertise-client-urls=${client}`, '--listen-peer-urls=http://127.0.0.1:2380'],
      '--unsafe-no-fsync',
    );
    this.#start(
      CONTROL,
      'kube-apiserver',
      ...[`--etcd-servers=${client}`, `--bind-address=${address}`, `--advertise-address=${address}`],
      ...['--secure-port=6443', `--cert-dir=${this.#at('certificates')}`],
      ...[`--token-auth-file=${this.#at('tokens')}`, '--authorization-mode=RBAC'],
      ...['--service-cluster-ip-range=10.96.0.0/16', '--service-account-issuer=https://lab'],
      `--service-account-signing-key-file=${this.#at('account.key')}`,
      `--service-account-key-file=${this.#at('account.key')}`,
      '--disable-admission-plugins=ServiceAccount',
    );
    await until(
      'the API server is ready',
      async () => (await this.kubectl('get', '--raw', '/readyz')).code === 0,
    );
    const access = [`--kubeconfig=${this.#at('kubeconfig')}`, '--leader-elect=false', '--secure-port=0'];
    this.#start(
      CONTROL,
      'kube-controller-manager',
      ...access,
      `--service-account-private-key-file=${this.#at('account.key')}`,
      `--node-monitor-grace-period=${NODE_GRACE_SECONDS}s`,
    );
    this.#start(CONTROL, 'kube-scheduler', ...access);
    this.#start(
      CONTROL,
      process.execPath,
      '--import=tsx',
      NAME_SERVER,
      ...[address, this.#server, this.#token],
    );
  }

  #kubeconfig(): object {
    const cluster = { server: this.#server, 'insecure-skip-tls-verify': true };
    return {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'lab', cluster }],
      users: [{ name: 'admin', user: { token: this.#token } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'admin' } }],
      'current-context': 'lab',
    };
  }

  async #startNode(node: string): Promise<void> {
    const folder = this.#at(node);
    const inNode = async (...command: string[]) => {
      const { code, stderr } = await this.lab.exec(node, command);
      if (code !== 0) throw new Error(`${command.join(' ')} in ${node}: ${stderr}`);
    };
    for (const name of ['network', 'kubelet', 'sysctl']) mkdirSync(join(folder, name), { recursive: true });
    const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
    write('network/10-lab.conflist', podNetwork(node, folder));
    write('containerd.toml', containerdConfig(folder));
    write('resolv.conf', `nameserver ${this.lab.addressOf(CONTROL)}\n`);
    write('kubelet.yaml', kubeletConfig(folder, this.lab.addressOf(CONTROL), this.#groups));
    for (const [name, value] of Object.entries(SYSCTLS)) write(`sysctl/${name}`, `${value}\n`);
    for (const other of this.lab.names.filter((name) => name !== node)) {
      const route = ['ip', 'route', 'replace', podSubnet(node), 'via', this.lab.addressOf(node)];
      await this.lab.exec(other, route);
    }
    await inNode('sysctl', '-qw', 'net.ipv4.ip_forward=1');
    // Names of pods' networks and their logs stay the host's, and volumes that the kubelet mounts reach containerd.
    for (const own of ['/run/netns', '/var/log']) await inNode('mount', '-t', 'tmpfs', 'tmpfs', own);
    await inNode('mount', '--bind', folder, folder);
    await inNode('mount', '--make-shared', folder);
    this.#start(node, 'containerd', '--config', join(folder, 'containerd.toml'));
    const ctr = ['ctr', '--address', join(folder, 'containerd.sock'), '--namespace', 'k8s.io'];
    await until(
      'containerd is ready',
      async () => (await this.lab.exec(node, [...ctr, 'version'])).code === 0,
    );
    await inNode(...ctr, 'image', 'import', this.#at('image', 'image.tar'));
    // The kubelet sets limits of the whole machine, and ends where it cannot: it gets files of its own in their place.
    const bind = `for f in ${folder}/sysctl/*; do mount --bind $f /proc/sys/$(basename $f | tr . /); done; exec kubelet "$@"`;
    this.#start(
      node,
      'unshare',
      ...['--mount', '--propagation', 'unchanged', 'sh', '-c', bind, 'sh'],
      ...[`--config=${join(folder, 'kubelet.yaml')}`, `--kubeconfig=${this.#at('kubeconfig')}`],
      ...[`--root-dir=${join(folder, 'kubelet')}`, `--cert-dir=${join(folder, 'certificates')}`],
      ...[`--hostname-override=${node}`, `--node-ip=${this.lab.addressOf(node)}`],
    );
  }
}

/** Control groups of pods that have ended, of every controller of version 1, or of version 2. */
function removeGroups(name: string): void {
  const remove = (folder: string) => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) remove(join(folder, entry.name));
    }
    rmdirSync(folder);
  };
  for (const folder of [GROUPS, ...readdirSync(GROUPS).map((controller) => join(GROUPS, controller))]) {
    try {
      remove(join(folder, name));
    } catch {
      // Not of this controller, or not a folder.
    }
  }
}
