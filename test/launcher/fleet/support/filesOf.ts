/** The two ends of a host's files, without a network between them. */

import { join } from 'node:path';
import { AgentFiles } from '../../../../launcher/src/fleet/agentFiles.ts';
import { HostFiles } from '../../../../launcher/src/fleet/hostFiles.ts';
import {
  decodeFromAgent,
  decodeFromCoordinator,
  encodeFromAgent,
  encodeFromCoordinator,
} from '../../../../launcher/src/fleet/protocol.ts';

/** Files of a host whose memory is `directory`, with the other places in it. */
export function filesOf(directory: string, name = 'h1'): HostFiles {
  const agent = new AgentFiles(
    (answer) => {
      const message = decodeFromAgent(encodeFromAgent('files', answer));
      if (message?.kind === 'files') host.answer(message.body);
    },
    { memory: directory, collected: join(directory, 'collected'), data: join(directory, 'data') },
  );
  const host = new HostFiles(name, (request) => {
    const message = decodeFromCoordinator(encodeFromCoordinator('files', request));
    if (message?.kind === 'files') agent.request(message.body);
  });
  return host;
}
