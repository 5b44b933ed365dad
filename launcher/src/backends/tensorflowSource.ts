/** Whether the ordinary npm package can bring TensorFlow to a machine. */

export interface TensorflowMachine {
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  readonly gpu: boolean;
  /** Of the GPUs; empty where none was asked for, or none is seen. */
  readonly computeCapabilities: readonly number[];
}

/** tfjs-node 4.22 brings TensorFlow 2.9, whose CUDA 11.2 knows no GPU after Ampere. */
const NEWEST_COMPUTE_CAPABILITY = 8.6;

/** Why the libraries that `@tensorflow/tfjs-node` downloads do not serve; undefined where they are worth trying. */
export function npmUnfit({
  platform,
  arch,
  gpu,
  computeCapabilities,
}: TensorflowMachine): string | undefined {
  if (arch !== 'x64') return `its libraries are for x64, not for ${arch}`;
  if (gpu && platform === 'darwin') return 'it uses no GPU on macOS';
  const newest = Math.max(0, ...computeCapabilities);
  if (gpu && newest > NEWEST_COMPUTE_CAPABILITY) {
    return `its CUDA 11.2 is older than a GPU of compute capability ${newest}`;
  }
  return undefined;
}
