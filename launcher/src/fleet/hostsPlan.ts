/** Which hosts a run has, and who starts their agents: what the flags say, and the configuration where they say nothing. */

import { SluiceError } from '@sluice/core';
import { type HostsConfig, STARTERS, type Starter } from '@sluice/train';
import { readHostFile, type SshHost } from './hostFile.ts';

export interface HostsFlags {
  /** `local`, `ssh:FILE`, `slurm`, `slurm:FILE`, `kubernetes:FILE` or `agents`. */
  readonly on?: string | undefined;
  /** Of `agents`, `slurm` and `kubernetes`: how many there are. */
  readonly nodes?: number | undefined;
  readonly listen?: string | undefined;
  readonly advertise?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly sshCommand?: string | undefined;
  /** Whether the hosts do not see the run's directory. */
  readonly collect?: boolean | undefined;
}

export interface HostsPlan extends Omit<HostsFlags, 'on'> {
  readonly starter: Starter;
  /** What it is told by: absolute, or from the working directory. */
  readonly file?: string | undefined;
  /** Of ssh. */
  readonly hosts: readonly SshHost[];
  /** Where that is said, for people. */
  readonly saidBy: string;
}

/**
 * Each flag goes before its key of the configuration; `on` before the file and the list of hosts too.
 * @param config with absolute paths
 * @param path of the configuration's file, for people
 * @throws SLUICE_E_USAGE for another starter, or one that lacks its file; SLUICE_E_HOST_FILE
 */
export function planHosts(flags: HostsFlags, config: HostsConfig, path: string): HostsPlan {
  const { on, ...others } = flags;
  const said = on === undefined ? { ...config, starter: config.on } : splitOn(on);
  const { starter, file, list } = { list: undefined, ...said };
  const told = Object.entries(others).filter(([, value]) => value !== undefined);
  const { nodes, listen, advertise, keyFile, sshCommand, collect } = config;
  return {
    ...{ nodes, listen, advertise, keyFile, sshCommand, collect },
    ...Object.fromEntries(told),
    ...{ starter, file },
    hosts: starter === 'ssh' ? (list ?? readHostFile(file!)) : [],
    saidBy: on === undefined ? (config.on === 'local' ? 'nobody' : path) : `--on ${on}`,
  };
}

/** @throws SLUICE_E_USAGE */
function splitOn(on: string): { readonly starter: Starter; readonly file: string | undefined } {
  const [, word, file] = /^([a-z]+)(?::(.+))?$/.exec(on) ?? [];
  const starter = STARTERS.find((one) => one === word);
  const needsFile = starter === 'ssh';
  const takesFile = needsFile || starter === 'slurm' || starter === 'kubernetes';
  if (starter !== undefined && (takesFile || file === undefined) && (file !== undefined || !needsFile)) {
    return { starter, file };
  }
  throw new SluiceError(
    'SLUICE_E_USAGE',
    `--on is ${on}, none of local, ssh:FILE, slurm, slurm:FILE, kubernetes:FILE and agents.`,
  );
}
