/** Real processes that train together, and end with the test. */

import { spawn } from 'node:child_process';
import { ControlServer } from '@sluice/collectives';
import type { ExecutionContext } from 'ava';

/**
 * @param entry the program of each worker
 * @param hosts ranks of each host, as which parts of this machine are taken
 */
export async function startWorkers(
  t: ExecutionContext,
  entry: string,
  worldSize: number,
  transport: 'ipc' | 'tcp' = 'ipc',
  hosts: readonly (readonly number[])[] = [],
): Promise<ControlServer> {
  const endpoint = transport === 'tcp' ? { endpoint: 'tcp://127.0.0.1:0' } : {};
  const server = await ControlServer.listen({ worldSize, transport, hosts, ...endpoint });
  const workers = Array.from({ length: worldSize }, (_, rank) => {
    const worker = spawn(process.execPath, [entry], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    worker.send(server.invitation(rank));
    return worker;
  });
  t.teardown(async () => {
    for (const worker of workers) worker.kill('SIGKILL');
    await server.close();
  });
  await server.ready();
  return server;
}
