/** Which TensorFlow.js backends this machine can run, and why not the others. */

import { type BackendState, probeBackends } from '../backends/probe.ts';
import type { Finding } from './finding.ts';

/** The backends beyond `native` and `cpu`, which the engine's own findings are about. */
export async function examineBackends(): Promise<Finding[]> {
  const states = await probeBackends();
  return states.filter(({ name }) => name !== 'native' && name !== 'cpu').map(backendFinding);
}

/** An optional backend that was never installed is nothing to mend; one that is there and does not run, or is misnamed, is. */
export function backendFinding({ name, installed, runs, reason, isMistaken }: BackendState): Finding {
  const remark = reason === undefined ? '' : `: ${reason}`;
  return {
    name: `backend ${name}`,
    found: runs ? `runs${remark}` : `${installed ? 'does not run' : 'no'}${remark}`,
    ok: runs || !(installed || isMistaken),
    ...(isMistaken && { mend: reason }),
    ...(installed &&
      !runs && { mend: `see docs/backends.md, or install it again: sluice backend install ${name}` }),
    values: { installed, runs, reason: reason ?? null },
  };
}
