/** The file of hosts of `--on ssh:FILE`: a host a line, with what must be known of it. */

import { readFileSync } from 'node:fs';
import { SluiceError } from '@sluice/core';
import { addressTowards } from './address.ts';

export interface SshHost {
  /** As ssh knows it, and as people call it. */
  readonly name: string;
  /** Workers that it takes; any number when left out. */
  readonly slots?: number | undefined;
  /** Number by which other hosts reach it. */
  readonly address?: string | undefined;
  /** Program that runs JavaScript there. */
  readonly node?: string | undefined;
  /** Path of `sluice.js` there; that of this host when left out. */
  readonly sluice?: string | undefined;
}

/** The name of a host without its user. */
export function nodeName({ name }: Pick<SshHost, 'name'>): string {
  return name.replace(/^.*@/, '');
}

/**
 * Where the hosts find this one: the address by which packets to the first of them leave; loopback where there are none.
 * @throws SLUICE_E_ADDRESS_UNREACHABLE where its name does not resolve here
 */
export async function addressForHosts([first]: readonly SshHost[]): Promise<string> {
  if (!first) return '127.0.0.1';
  const name = first.address ?? nodeName(first);
  try {
    return await addressTowards(name);
  } catch (cause) {
    throw new SluiceError(
      'SLUICE_E_ADDRESS_UNREACHABLE',
      `${name} does not resolve here, though ssh may know it: by which number hosts reach this machine is not found out.`,
      { details: { host: name }, cause },
    );
  }
}

const KEYS = ['slots', 'address', 'node', 'sluice'] as const;

/** @throws SLUICE_E_HOST_FILE with the line */
export function readHostFile(path: string): SshHost[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw fault(path, undefined, `cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  return parseHostFile(text, path);
}

/**
 * Lines of `NAME [slots=N] [address=A] [node=PATH] [sluice=PATH]`; what follows a `#` is for people.
 * @throws SLUICE_E_HOST_FILE
 */
export function parseHostFile(text: string, path: string): SshHost[] {
  const hosts: SshHost[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    const [name, ...words] = line.replace(/#.*/, '').trim().split(/\s+/);
    if (!name) continue;
    if (!/^[\w.@-]+$/.test(name) || name.startsWith('-'))
      throw fault(path, index, `${name} is no name of a host`);
    if (hosts.some((host) => host.name === name)) throw fault(path, index, `${name} is there twice`);
    hosts.push({ name, ...Object.fromEntries(words.map((word) => setting(word, path, index))) });
  }
  if (hosts.length === 0) throw fault(path, undefined, 'names no host');
  return hosts;
}

function setting(word: string, path: string, index: number): [string, string | number] {
  const [, key = '', value = ''] = /^(\w+)=(.+)$/.exec(word) ?? [];
  if (!(KEYS as readonly string[]).includes(key)) {
    throw fault(path, index, `${word} is none of ${KEYS.map((one) => `${one}=…`).join(', ')}`);
  }
  if (key !== 'slots') return [key, value];
  if (!/^[1-9]\d{0,5}$/.test(value))
    throw fault(path, index, `slots=${value} is no whole number of at least 1`);
  return [key, Number(value)];
}

function fault(path: string, index: number | undefined, what: string): SluiceError {
  const place = index === undefined ? path : `${path}:${index + 1}`;
  return new SluiceError('SLUICE_E_HOST_FILE', `${place}: ${what}.`, {
    details: { path, ...(index !== undefined && { line: index + 1 }) },
  });
}
