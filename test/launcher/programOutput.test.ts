import test from 'ava';
import { programOutput } from '../../launcher/src/run/programOutput.ts';

test('a program tells what it says, and nothing where it fails or is not there', (t) => {
  const node = (script: string) => programOutput(process.execPath, ['-e', script]);
  t.is(node('console.log(" two words \\n")'), 'two words');
  t.is(node('console.log("said"); process.exit(1)'), undefined);
  t.is(programOutput('/nonexistent/program', []), undefined);
});
