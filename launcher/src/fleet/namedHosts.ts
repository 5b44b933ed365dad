/** The hosts that `--hosts` names, to be gone through by ssh: those of a file of hosts, of a configuration, or of a run. */

import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Protection } from '@sluice/collectives';
import { loadYamlConfig, SluiceError, shippedFile } from '@sluice/core';
import { HostsConfig } from '@sluice/train';
import { z } from 'zod';
import { existingRun } from '../run/runDirectory.ts';
import { pathFromRun } from '../run/runPaths.ts';
import { readHostFile, type SshHost } from './hostFile.ts';

export interface NamedHosts {
  readonly hosts: readonly SshHost[];
  /** The program and its first words in place of `ssh`. */
  readonly command?: readonly string[] | undefined;
  /** Number by which the hosts reach this machine, where it is said. */
  readonly advertise?: string | undefined;
  /** Of what workers of different hosts send each other, where it is said. */
  readonly protection?: Protection | undefined;
}

/** All that must be known of a configuration here, whatever else is in it. */
const OnlyHosts = z.looseObject({ hosts: HostsConfig.prefault({}) });

/**
 * @param source a file of hosts; a configuration (.yaml, .yml, .json), or the directory of a run, whose `hosts` are those of ssh
 * @param sshCommand goes before what a configuration says
 * @throws SLUICE_E_HOST_FILE, SLUICE_E_RUN_MISSING, and the coded errors of `loadYamlConfig`
 */
export function namedHosts(source: string, sshCommand: string | undefined): NamedHosts {
  const isRun = statSync(source, { throwIfNoEntry: false })?.isDirectory() ?? false;
  if (!isRun && !/\.(ya?ml|json)$/.test(source)) {
    return { hosts: readHostFile(source), command: sshCommand?.split(' ') };
  }
  const path = isRun ? existingRun(source).config : shippedFile(source);
  const { on, list, file, advertise, protection, ...said } = loadYamlConfig(path, OnlyHosts).hosts;
  if (on !== 'ssh') throw notBySsh(path, on);
  return {
    hosts: list ?? readHostFile(pathFromRun(dirname(path), file!)),
    command: (sshCommand ?? said.sshCommand)?.split(' '),
    ...{ advertise, protection },
  };
}

function notBySsh(path: string, on: string): SluiceError {
  return new SluiceError(
    'SLUICE_E_HOST_FILE',
    `${path} names no hosts that ssh leads to: hosts.on is ${on}. Name them in a file of hosts.`,
    { details: { path, on } },
  );
}
