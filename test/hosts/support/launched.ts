/** Runs that are launched by ssh on the three hosts of a lab, coordinated by the first, and what their processes are hit with. */

import { statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Sandbox } from '../../e2e/support/sandbox.ts';
import type { Running } from '../../support/running.ts';
import { Lab } from './lab.ts';

const PROGRAM = fileURLToPath(new URL('../../../launcher/bin/sluice.js', import.meta.url));

/** How long what is to end by itself may take, ms. */
const END_MS = 30_000;
const LOOK_MS = 20;

export interface LaunchOptions {
  readonly runDir: string;
  /** A file of hosts. */
  readonly hosts?: string;
  /** The host on which the command is given. */
  readonly from?: string;
  readonly words?: readonly string[];
}

export class LaunchLab {
  readonly lab: Lab;
  readonly sandbox: Sandbox;
  /** Those of a run on one machine that nothing disturbs. */
  quietWeights = '';

  private constructor(lab: Lab) {
    this.lab = lab;
    this.sandbox = new Sandbox();
  }

  /**
   * @param config of all runs, YAML, beside the sandbox's own
   * @param parallel workers of those on all hosts. Each has one thread: hosts share the machine's cores, and threads that wait for
   *   each other spinning would take most of them.
   */
  static async up(
    config: string,
    parallel: { workers: number; expertParallel?: number },
  ): Promise<LaunchLab> {
    const all = new LaunchLab(await Lab.up(3));
    const { sandbox } = all;
    sandbox.write('hosts.txt', 'h1 slots=2\nh2 slots=1\nh3 slots=1\n');
    const faults = { replacementSeconds: 1, maxRestarts: 1000 };
    const ours = [
      `parallel: ${JSON.stringify({ threads: 1, ...parallel })}`,
      `faults: ${JSON.stringify(faults)}`,
    ];
    sandbox.write('run.yaml', [config, ...ours, ''].join('\n'));
    const alone = 'train run.yaml --workers 1 --expert-parallel 1 --run-dir runs/alone';
    all.quietWeights = (await sandbox.json<{ weightsHash: string }>(alone)).weightsHash;
    return all;
  }

  async down(): Promise<void> {
    await this.lab.down();
    this.sandbox.dispose();
  }

  /** Starts a run on all hosts, or goes on with it. */
  launch({ runDir, hosts = 'hosts.txt', from = 'h1', words = [] }: LaunchOptions): Running {
    const command = ['launch', 'run.yaml', '--on', `ssh:${hosts}`, '--run-dir', runDir, '--json'];
    return this.lab.start(from, [process.execPath, PROGRAM, ...command, ...words], {
      cwd: this.sandbox.path,
      environment: { SLUICE_DATA: `${this.sandbox.path}/data` },
    });
  }

  /** Ends the processes of a host whose words have all of `marks`, as `kill -9` does. */
  killIn(name: string, ...marks: readonly string[]): void {
    const found = this.lab
      .processes(name)
      .filter(({ command }) => marks.every((mark) => command.includes(mark)));
    if (found.length === 0) throw new Error(`nothing of ${marks.join(' ')} runs in ${name}`);
    for (const { pid } of found) process.kill(pid, 'SIGKILL');
  }

  /** Hosts that have workers at the moment. */
  busyHosts(): string[] {
    return this.lab.names.filter((name) =>
      this.lab.processes(name).some(({ command }) => command.includes('worker.js')),
    );
  }

  /** What still runs on the hosts, after a while in which it may end. */
  async leftOver(): Promise<string[]> {
    const list = () =>
      this.lab.names.flatMap((name) => this.lab.processes(name).map(({ command }) => `${name}: ${command}`));
    for (let waited = 0; list().length > 0 && waited < END_MS; waited += 100) await setTimeout(100);
    return list();
  }

  /** Resolves with the next step that is recorded; rejects when the run ends before. */
  async nextStep(runDir: string, { ended }: Running): Promise<void> {
    const file = join(this.sandbox.path, runDir, 'metrics.jsonl');
    const bytes = () => statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    let hasEnded = false;
    void ended.then(() => (hasEnded = true));
    for (let before = bytes(); !hasEnded; ) {
      await setTimeout(LOOK_MS);
      const now = bytes();
      if (now > before) return;
      // Going back takes lines out.
      before = now;
    }
    throw new Error(`the run ended before its next step:\n${(await ended).stderr}`);
  }
}
