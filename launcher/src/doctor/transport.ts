/** ZeroMQ, over which the workers speak. */

import type { Finding } from './finding.ts';

export async function examineTransport(): Promise<Finding> {
  try {
    const { capability, version } = await import('zeromq');
    const { ipc = false, curve = false } = capability;
    const parts = [`ipc ${ipc ? 'yes' : 'no'}`, `curve (encryption) ${curve ? 'yes' : 'no'}`];
    return {
      name: 'zeromq',
      found: `${version}, ${parts.join(', ')}`,
      ok: true,
      values: { version, ipc, curve },
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return {
      name: 'zeromq',
      found: `does not load: ${reason.split('\n')[0]}`,
      ok: false,
      mend: 'npm rebuild zeromq',
      values: { version: null, reason },
    };
  }
}
