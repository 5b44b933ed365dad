/** Writes the page of a diagnosis: one file that needs no network. */

import { writeOutputFile } from '@sluice/core';
import { loadScripts, loadStyles, pageScripts } from '../report/assets.ts';
import { type DiagnosedModel, renderDiagnosis } from './page.ts';

/** @throws SLUICE_E_FILE_MISSING, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL */
export async function writeDiagnosisPage(path: string, models: readonly DiagnosedModel[]): Promise<void> {
  const [styles, script] = await Promise.all([
    loadStyles(['report', 'figures', 'diagnosis']),
    loadScripts([...pageScripts('theme'), new URL('./script.js', import.meta.url)]),
  ]);
  await writeOutputFile(path, [renderDiagnosis(models, { styles, script })]);
}
