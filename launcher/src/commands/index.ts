/** All commands, in the order in which the help lists them. */

import type { Command } from '../cli/command.ts';
import { agentCommand } from './agent.ts';
import { backendInstallCommand } from './backendInstall.ts';
import { backendListCommand } from './backendList.ts';
import { benchCollectivesCommand } from './benchCollectives.ts';
import { benchKernelsCommand } from './benchKernels.ts';
import { benchStepCommand } from './benchStep.ts';
import { claimsCommand } from './claims.ts';
import { completionCommand } from './completion.ts';
import { countCommand } from './count.ts';
import { dataListCommand } from './dataList.ts';
import { dataPrepareCommand } from './dataPrepare.ts';
import { diagnoseCommand } from './diagnose.ts';
import { doctorCommand } from './doctor.ts';
import { evaluateCommand } from './evaluate.ts';
import { experimentCommand } from './experiment.ts';
import { exportCommand } from './export.ts';
import { exportMetricsCommand } from './exportMetrics.ts';
import { findLrCommand } from './findLr.ts';
import { generateCommand } from './generate.ts';
import { hashCommand } from './hash.ts';
import { importCommand } from './import.ts';
import { inspectCommand } from './inspect.ts';
import { keyCommand } from './key.ts';
import { launchCommand } from './launch.ts';
import { logitsCommand } from './logits.ts';
import { mlflowCommand } from './mlflow.ts';
import { planCommand } from './plan.ts';
import { psCommand } from './ps.ts';
import { replayCommand } from './replay.ts';
import { resumeCommand } from './resume.ts';
import { simulateCommand } from './simulate.ts';
import { spikesCommand } from './spikes.ts';
import { stopCommand } from './stop.ts';
import { tensorboardCommand } from './tensorboard.ts';
import { trainCommand } from './train.ts';
import { verifyResumeCommand } from './verifyResume.ts';
import { watchCommand } from './watch.ts';

export const COMMANDS: readonly Command[] = [
  trainCommand,
  resumeCommand,
  launchCommand,
  agentCommand,
  keyCommand,
  psCommand,
  watchCommand,
  tensorboardCommand,
  mlflowCommand,
  exportMetricsCommand,
  stopCommand,
  generateCommand,
  evaluateCommand,
  diagnoseCommand,
  logitsCommand,
  hashCommand,
  inspectCommand,
  spikesCommand,
  replayCommand,
  countCommand,
  planCommand,
  simulateCommand,
  verifyResumeCommand,
  importCommand,
  experimentCommand,
  findLrCommand,
  claimsCommand,
  exportCommand,
  dataPrepareCommand,
  dataListCommand,
  benchStepCommand,
  benchKernelsCommand,
  benchCollectivesCommand,
  backendInstallCommand,
  backendListCommand,
  doctorCommand,
  completionCommand,
];
