/** A host of `doctor --hosts` on another machine, started through ssh. */

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { nodeName, type SshHost } from '../../fleet/hostFile.ts';
import { AGENT_BEGINS, onceEnded, sshFailureText, sshWords } from '../../fleet/starters/ssh.ts';
import { type Probe, ProbeAnswer, type ProbePlace } from './probe.ts';

/** How long a host may take for an answer: its own limits are shorter, ms. */
const ANSWER_LIMIT_MS = 60_000;

/**
 * @param command the program and its first words in place of `ssh`
 * @throws Error with why the host cannot be looked at, in words
 */
export async function sshProbe(
  host: SshHost,
  place: ProbePlace,
  command: readonly string[] | undefined,
): Promise<Probe> {
  const [program, ...words] = sshWords(host, command, { words: ['doctor', '--stdio'] });
  const child = spawn(program!, words, { stdio: ['pipe', 'pipe', 'pipe'] });
  let said = '';
  let ended: string | undefined;
  let settle: ((line: string | undefined) => void) | undefined;
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (!line.startsWith(AGENT_BEGINS)) said = line;
  });
  // What a login script prints is no answer.
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.startsWith('{')) settle?.(line);
  });
  child.stdin.on('error', () => {});
  onceEnded(child, (end) => {
    ended ??= sshFailureText(end, said);
    settle?.(undefined);
  });

  const ask = async (question: object): Promise<ProbeAnswer> => {
    const line = await new Promise<string | undefined>((resolve) => {
      const limit = setTimeout(() => resolve(undefined), ANSWER_LIMIT_MS);
      settle = (answer) => {
        clearTimeout(limit);
        resolve(answer);
      };
      child.stdin.write(`${JSON.stringify(question)}\n`);
      if (ended !== undefined) settle(undefined);
    });
    const answer = line === undefined ? undefined : answerOf(line);
    if (answer !== undefined) return answer;
    const none = `no answer within ${ANSWER_LIMIT_MS / 1000} s`;
    throw new Error(
      ended ?? (line === undefined ? none : `it does not speak as this version does: ${line.slice(0, 200)}`),
    );
  };
  const end = () => {
    child.stdin.end();
    child.kill();
  };
  try {
    const answer = await ask(place);
    if (!('facts' in answer)) throw new Error(`${nodeName(host)} answered out of order`);
    return {
      facts: answer.facts,
      async tryLink(endpoint) {
        try {
          const link = await ask({ connect: endpoint });
          if ('link' in link) return link.link;
          throw new Error('it answered out of order');
        } catch (error) {
          return { roundTripMs: null, bytesPerSecond: null, failure: (error as Error).message };
        }
      },
      end,
    };
  } catch (error) {
    end();
    throw error;
  }
}

function answerOf(line: string): ProbeAnswer | undefined {
  try {
    return ProbeAnswer.parse(JSON.parse(line));
  } catch {
    return undefined;
  }
}
