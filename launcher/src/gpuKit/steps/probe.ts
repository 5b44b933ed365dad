/** What there is, and what it can do at most. */

import { cpus, release, totalmem } from 'node:os';
import { availableCores } from '@sluice/core';
import { engineReport, selectBackend } from '@sluice/engine';
import { cudaBackend, measureCeilings } from '@sluice/engine/cuda';
import { formatBytes, terminalTable } from '@sluice/observe';
import { programOutput } from '../../run/programOutput.ts';
import type { RunStep } from '../step.ts';

/** What the driver's own tool says of the cards. */
const SMI_FIELDS = [
  'name',
  'driver_version',
  'memory.total',
  'power.limit',
  'clocks.max.sm',
  'clocks.max.memory',
  'mig.mode.current',
  'ecc.mode.current',
];

export const runStep: RunStep = async ({ scale, keep }) => {
  await selectBackend('cuda');
  const { device, description, arithmetic } = cudaBackend();
  const { driver } = device;
  const { major, minor } = driver.computeCapability;
  const { free, total } = driver.memory;
  const facts = {
    ...{ name: driver.deviceName, description, arithmetic, computeCapability: `${major}.${minor}` },
    ...{
      driverVersion: driver.version,
      multiprocessors: device.multiprocessors,
      memoryBytes: total,
      freeBytes: free,
    },
    sharedBytesOfBlock: driver.sharedBytesOfBlock,
    mappingGranularity: driver.mappingGranularity,
    smi: programOutput('nvidia-smi', [`--query-gpu=${SMI_FIELDS.join(',')}`, '--format=csv']) ?? null,
    host: {
      ...{
        cpu: cpus()[0]?.model ?? '',
        cores: availableCores().count,
        memoryBytes: totalmem(),
        system: release(),
      },
      ...{ node: process.version, core: engineReport().simd },
    },
  };
  keep(facts);
  const ceilings = await measureCeilings(device, scale);
  const { copyGBps, tensorGflops, instruction, launchMicroseconds } = ceilings;
  const rows = [
    ['computes', description],
    [
      'multiprocessors, shared memory of a block',
      `${device.multiprocessors}, ${formatBytes(facts.sharedBytesOfBlock)}`,
    ],
    ['memory', `${formatBytes(total)}, of which ${formatBytes(free)} free`],
    [
      'host',
      `${facts.host.cpu}, ${facts.host.cores} cores, ${formatBytes(facts.host.memoryBytes)}, Node ${process.version}`,
    ],
    ['a copy reads and writes', `${copyGBps.toFixed(0)} GB/s`],
    [`products by ${instruction}`, `${(tensorGflops / 1000).toFixed(1)} TFLOP/s`],
    ['a launch in a row of them', `${launchMicroseconds.toFixed(2)} µs`],
  ];
  return {
    verdict: 'right',
    summary: `${facts.name}: ${copyGBps.toFixed(0)} GB/s, ${(tensorGflops / 1000).toFixed(1)} TFLOP/s by ${instruction}`,
    text: terminalTable(rows, { align: ['left', 'left'] }),
    data: { ...facts, ceilings },
  };
};
