/** The cluster's one image, made without a registry: nothing but busybox. What pods run comes from the machine, by `hostPath`. */

import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../../hosts/support/run.ts';

/** As pods name it; its program waits for ever, as the sandbox of a pod does. */
export const IMAGE = 'docker.io/sluice/busybox:1';

/** The user that pods run as unless it is said, with a name, as in the image of the Containerfile. */
const USERS = 'root:x:0:0::/:/bin/sh\nnode:x:1000:1000::/tmp:/bin/sh\n';

/**
 * @param folder an empty one, for what it is made of
 * @returns an archive that `ctr image import` takes
 */
export function makeImage(folder: string): string {
  const at = (...names: string[]) => join(folder, ...names);
  for (const name of ['root/bin', 'root/etc', 'root/tmp', 'root/usr', 'root/lib', 'root/lib64']) {
    mkdirSync(at(name), { recursive: true });
  }
  copyFileSync(run('which', 'busybox').trim(), at('root/bin/busybox'));
  writeFileSync(at('root/etc/passwd'), USERS);
  run('chmod', '1777', at('root/tmp'));
  run('tar', '--owner=0', '--group=0', '--numeric-owner', '-C', at('root'), '-cf', at('layer.tar'), '.');
  const layer = createHash('sha256')
    .update(readFileSync(at('layer.tar')))
    .digest('hex');
  const architecture = process.arch === 'x64' ? 'amd64' : process.arch;
  const config = { Entrypoint: ['/bin/busybox', 'sleep', '1000000'] };
  const write = (name: string, value: unknown) => writeFileSync(at(name), JSON.stringify(value));
  write('config.json', {
    architecture,
    os: 'linux',
    config,
    rootfs: { type: 'layers', diff_ids: [`sha256:${layer}`] },
  });
  write('manifest.json', [{ Config: 'config.json', RepoTags: [IMAGE], Layers: ['layer.tar'] }]);
  run('tar', '-C', folder, '-cf', at('image.tar'), 'manifest.json', 'config.json', 'layer.tar');
  rmSync(at('root'), { recursive: true });
  return at('image.tar');
}
