/** Which backend runs. */

import { SluiceError } from '@sluice/core';
import * as tf from '@tensorflow/tfjs';
import { NATIVE_BACKEND } from './backend.ts';
import type { Backend } from './backends/backend.ts';
import { BACKENDS } from './backends/index.ts';
import { nativeCore } from './native.ts';
import { type Precision, precisionOn } from './precision.ts';
import { awaitReadsOn } from './reads.ts';

/**
 * Makes a TensorFlow.js backend the running one, loading it first where it is an optional one. `native` falls back to
 * `cpu` where the C++ core was not built. Backends that someone else registered with TensorFlow.js serve too.
 * @param precision of activations; where it is left out, the backend's own
 * @returns the name of the backend that runs
 * @throws SLUICE_E_BACKEND_MISSING when it is not installed, SLUICE_E_BACKEND_FAILED when it does not start, SLUICE_E_BACKEND_UNSUPPORTED
 *   when it has no such precision
 */
export async function selectBackend(wanted: string, precision?: Precision): Promise<string> {
  const name = wanted === NATIVE_BACKEND && !nativeCore() ? 'cpu' : wanted;
  const known = knownBackend(name);
  const chosen = known && precisionOn(known, precision);
  if (!tf.findBackendFactory(name)) await loadBackend(name);
  if (known && !known.readsSynchronously) awaitReadsOn(name);
  let failure: unknown;
  const started = await tf.setBackend(name).catch((error: unknown) => {
    failure = error;
    return false;
  });
  if (!started) throw startFailure(name, failure);
  await tf.ready();
  const running = tf.backend() as { precision?: Precision };
  if (chosen && running.precision) running.precision = chosen;
  return name;
}

function knownBackend(name: string): Backend | undefined {
  return (BACKENDS as Readonly<Record<string, Backend>>)[name];
}

async function loadBackend(name: string): Promise<void> {
  const backend = knownBackend(name);
  if (!backend) {
    throw new SluiceError(
      'SLUICE_E_BACKEND_MISSING',
      `There is no backend "${name}"; there are ${Object.keys(BACKENDS).join(', ')}.`,
      { details: { backend: name } },
    );
  }
  const absence = backend.absence();
  if (absence) {
    throw new SluiceError('SLUICE_E_BACKEND_MISSING', `The backend "${name}" cannot run: ${absence}.`, {
      details: { backend: name, reason: absence },
    });
  }
  try {
    await backend.load();
  } catch (error) {
    throw startFailure(name, error);
  }
}

function startFailure(name: string, cause: unknown): SluiceError {
  const reason = cause instanceof Error ? cause.message.split('\n')[0] : 'TensorFlow.js could not start it';
  return new SluiceError('SLUICE_E_BACKEND_FAILED', `The backend "${name}" does not start: ${reason}.`, {
    details: { backend: name, reason },
    cause,
  });
}
