/** Writes the page of a diagnosis: one file that needs no network. */

import { readFile } from 'node:fs/promises';
import { writeOutputFile } from '@sluice/core';
import { type DiagnosedModel, renderDiagnosis } from './page.ts';

/** @throws SLUICE_E_FILE_MISSING, SLUICE_E_FILE_UNWRITABLE, SLUICE_E_DISK_FULL */
export async function writeDiagnosisPage(path: string, models: readonly DiagnosedModel[]): Promise<void> {
  const read = (file: string) => readFile(new URL(file, import.meta.url), 'utf8');
  const [shared, own, script] = await Promise.all([
    read('../../assets/report.css'),
    read('../../assets/diagnosis.css'),
    read('./script.js'),
  ]);
  const assets = { styles: shared + own, script: script.replace(/^\/\/# sourceMappingURL=.*$/m, '') };
  await writeOutputFile(path, [renderDiagnosis(models, assets)]);
}
