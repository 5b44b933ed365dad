/** Whether the GPU of this process can send to others by NCCL, and how it begins to. */

import { SluiceError } from '@sluice/core';
import type { DeviceLinks } from '../deviceLink.ts';
import type { CudaDevice } from './device.ts';
import { isCudaEmulated } from './environment.ts';
import { findNccl } from './libraries.ts';
import { NcclLink } from './link.ts';
import { NAME_WORDS, Nccl, ncclVersion } from './nccl.ts';

/** The library, and where it was found. */
interface Opened {
  readonly nccl: Nccl;
  readonly path: string;
}

/** @throws SLUICE_E_NCCL where `SLUICE_NCCL` is not understood */
function isNcclOff(): boolean {
  const wanted = process.env.SLUICE_NCCL;
  if (!wanted || wanted === 'off') return wanted === 'off';
  throw new SluiceError('SLUICE_E_NCCL', `SLUICE_NCCL is "${wanted}", and may be "off", or unset.`);
}

/** @throws SLUICE_E_NCCL where there is none */
function openNccl({ driver }: CudaDevice): Opened {
  // The emulator has NCCL's functions too.
  return isCudaEmulated() ? { nccl: new Nccl(driver.library), path: 'the emulator' } : findNccl();
}

export function cudaLinks(device: CudaDevice): DeviceLinks {
  let opened: Opened | undefined;
  const open = () => {
    opened ??= openNccl(device);
    return opened;
  };
  return {
    describe: ncclVersion,
    end() {
      if (isNcclOff()) return { absence: 'SLUICE_NCCL=off' };
      try {
        const { nccl, path } = open();
        const description = `${ncclVersion(nccl.version)} of ${path}`;
        return { description, version: nccl.version, device: device.driver.deviceIdentity };
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        return { absence: error.message };
      }
    },
    newName: () => open().nccl.newName(),
    nameWords: NAME_WORDS,
    open: (name, rank, size, watch) => new NcclLink(open().nccl, device, name, { rank, size, watch }),
  };
}
