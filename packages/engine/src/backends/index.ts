/** The backends that a configuration can name. */

import type { Backend } from './backend.ts';
import { cpu } from './cpu.ts';
import { cuda } from './cuda.ts';
import { native } from './native.ts';
import { tensorflow } from './tensorflow.ts';
import { wasm } from './wasm.ts';
import { webgpu } from './webgpu.ts';

/** In the order in which they are listed. */
export const BACKEND_NAMES = ['native', 'cuda', 'tensorflow', 'webgpu', 'wasm', 'cpu'] as const;

export type BackendName = (typeof BACKEND_NAMES)[number];

export const BACKENDS: Readonly<Record<BackendName, Backend>> = {
  native,
  cuda,
  tensorflow,
  webgpu,
  wasm,
  cpu,
};
