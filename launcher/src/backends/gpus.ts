/** NVIDIA's GPUs in this machine. */

import { execFileSync } from 'node:child_process';

export interface Gpu {
  readonly index: number;
  readonly name: string;
  /** What it can compute, such as 9 for Hopper. */
  readonly computeCapability: number;
}

/** The GPUs that NVIDIA's driver knows; none where there is no driver. */
export function listGpus(): Gpu[] {
  try {
    const query = ['--query-gpu=index,name,compute_cap', '--format=csv,noheader'];
    const text = execFileSync('nvidia-smi', query, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return parseGpus(text);
  } catch {
    return [];
  }
}

export function parseGpus(text: string): Gpu[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(\d+), (.+), ([\d.]+)$/.exec(line.trim());
    return match ? [{ index: Number(match[1]), name: match[2]!, computeCapability: Number(match[3]) }] : [];
  });
}
