/** How commands that a scheduler starts tell it what it should do next. */

import { type ErrorCode, SluiceError } from '@sluice/core';

/** How an agent, and the coordinator that it follows, ends. */
export const EXIT_DONE = 0;
export const EXIT_FAILED = 1;
export const EXIT_CONFIGURATION = 2;
/** Stopped early, with all that was done saved: to be started again (EX_TEMPFAIL of sysexits.h). */
export const EXIT_STOPPED_EARLY = 75;

/** Mistakes that the same command makes again, however often it is started. */
const CONFIGURATION: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'SLUICE_E_USAGE',
  'SLUICE_E_CONFIG_SYNTAX',
  'SLUICE_E_CONFIG_INVALID',
  'SLUICE_E_CONFIG_OVERRIDE',
  'SLUICE_E_WORKERS_INVALID',
  'SLUICE_E_BATCH_INDIVISIBLE',
  'SLUICE_E_EXPERT_PARALLEL_INVALID',
  'SLUICE_E_SCHEDULE_INVALID',
  'SLUICE_E_VOCABULARY_TOO_SMALL',
  'SLUICE_E_RESUME_KEY_FIXED',
  'SLUICE_E_RESUME_NEEDS_ALLOW',
  'SLUICE_E_HOST_FILE',
  'SLUICE_E_KEY_FILE',
  'SLUICE_E_HOST_DIFFERS',
  'SLUICE_E_ADDRESS_UNREACHABLE',
  'SLUICE_E_PLACE_UNKNOWN',
  'SLUICE_E_PLACE_INVALID',
  'SLUICE_E_PLACE_SHARED',
  'SLUICE_E_STARTER_INVALID',
  'SLUICE_E_STARTER_MISSING',
]);

/** The exit code of a mistake in what was asked for; undefined for any other error. */
function configurationExitCode(error: unknown): number | undefined {
  return error instanceof SluiceError && CONFIGURATION.has(error.code) ? EXIT_CONFIGURATION : undefined;
}

/** 2: never start it again as it is; 75: start it again; 1: somebody should look. */
export function schedulerExitCode(error: SluiceError): number {
  if (error.code === 'SLUICE_E_INTERRUPTED') {
    // Stopped by a person, who does not want a scheduler to start it again.
    return error.details.isFinal ? EXIT_CONFIGURATION : EXIT_STOPPED_EARLY;
  }
  return configurationExitCode(error) ?? EXIT_FAILED;
}
