/** Running one `sluice` command on all hosts of a file, through ssh, and gathering their JSON. */

import { spawn } from 'node:child_process';
import { nodeName, type SshHost } from '../fleet/hostFile.ts';
import { onceEnded, type SshEnd, sshFailureText, sshWords } from '../fleet/starters/ssh.ts';

/** sshd refuses some of many connections that begin at once (MaxStartups 10:30:100). */
const AT_ONCE = 8;

export interface HostAnswer {
  readonly host: string;
  /** The command's JSON object; undefined where there is none. */
  readonly json: Readonly<Record<string, unknown>> | undefined;
  /** Why there is none, in words. */
  readonly failure?: string;
}

/** @param command the program and its first words in place of `ssh` */
export async function runOnHosts(
  hosts: readonly SshHost[],
  words: readonly string[],
  command?: readonly string[],
): Promise<HostAnswer[]> {
  const answers: HostAnswer[] = [];
  const waiting = hosts.entries();
  const runNext = async () => {
    for (const [i, host] of waiting) answers[i] = await runOn(host, words, command);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, runNext));
  return answers;
}

async function runOn(
  host: SshHost,
  words: readonly string[],
  command: readonly string[] | undefined,
): Promise<HostAnswer> {
  const [program, ...given] = sshWords(host, command, { words: [...words, '--json'] });
  const child = spawn(program!, given, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    err += text;
  });
  const end = await new Promise<SshEnd>((resolve) => onceEnded(child, resolve));
  return { host: nodeName(host), ...answerOf(out, err.trim().split('\n').at(-1) ?? '', end) };
}

function answerOf(out: string, said: string, end: SshEnd): Omit<HostAnswer, 'host'> {
  try {
    // A login script may print before it.
    const json = JSON.parse(out.trim().split('\n').at(-1)!);
    const { error } = json;
    return error ? { json: undefined, failure: `${error.code}: ${error.message}` } : { json };
  } catch {
    return { json: undefined, failure: sshFailureText(end, said) };
  }
}
