/** NVIDIA's GPUs in this machine. */

import { programOutput } from '../run/programOutput.ts';

export interface Gpu {
  readonly index: number;
  readonly name: string;
  /** What it can compute, such as 9 for Hopper. */
  readonly computeCapability: number;
}

/** The GPUs that NVIDIA's driver knows; none where there is no driver. */
export function listGpus(): Gpu[] {
  const query = ['--query-gpu=index,name,compute_cap', '--format=csv,noheader'];
  return parseGpus(programOutput('nvidia-smi', query) ?? '');
}

export function parseGpus(text: string): Gpu[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(\d+), (.+), ([\d.]+)$/.exec(line.trim());
    return match ? [{ index: Number(match[1]), name: match[2]!, computeCapability: Number(match[3]) }] : [];
  });
}
