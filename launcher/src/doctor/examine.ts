/** Looks at the machine and at the installation. Every finding that is not as it should be says how to mend it. */

import { terminalTable } from '@sluice/observe';
import type { CommandResult } from '../cli/command.ts';
import { examineBackends } from './backends.ts';
import { examineCompiler, examineCore } from './engine.ts';
import { examineGpus, examineMachine, examineNode, examineNpm, examineSharedMemory } from './machine.ts';
import { examineRuns } from './runs.ts';
import { examineTokenizers } from './tokenizers.ts';
import { examineTransport } from './transport.ts';

export async function examine(): Promise<CommandResult> {
  const findings = [
    examineNode(),
    examineNpm(),
    ...examineMachine(),
    examineGpus(),
    examineSharedMemory(),
    examineCompiler(),
    ...examineCore(),
    ...(await examineBackends()),
    await examineTransport(),
    examineTokenizers(),
    await examineRuns(),
  ];
  const rows = findings.map(({ name, found, ok }) => [ok ? 'ok' : 'mend', name, found]);
  const mending = findings.filter(({ mend }) => mend !== undefined);
  const advice = mending.map(({ name, mend }) => `${name}: ${mend}`);
  return {
    text: [
      terminalTable(rows, { header: ['', 'what', 'found'], align: ['left', 'left', 'left'] }),
      ...(advice.length === 0 ? ['Nothing to mend.'] : ['To mend:', ...advice.map((line) => `  ${line}`)]),
    ].join('\n'),
    json: {
      ok: findings.every(({ ok }) => ok),
      ...Object.fromEntries(findings.map(({ name, values }) => [camelCase(name), values])),
      mend: advice,
    },
  };
}

function camelCase(name: string): string {
  return name.replaceAll(/[^A-Za-z0-9]+(.)/g, (_, letter: string) => letter.toUpperCase());
}
