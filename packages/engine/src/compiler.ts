/** The platform's C++ compiler, for what is compiled at run time. */

import { execFileSync } from 'node:child_process';

export interface CxxCompiler {
  readonly command: string;
  /** The first line of what it says of itself. */
  readonly version: string;
}

/** Commands that may be one, the best first; `CXX` names the only one. */
export function compilerCandidates(): string[] {
  return process.env.CXX ? [process.env.CXX] : ['c++', 'g++', 'clang++'];
}

/** The first of the candidates that runs. */
export function cxxCompiler(): CxxCompiler | undefined {
  for (const command of compilerCandidates()) {
    try {
      const version = execFileSync(command, ['--version'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      return { command, version: version.split('\n')[0]! };
    } catch {
      // Not this one.
    }
  }
  return undefined;
}
