/** What there is, and what it can do at most. */

import { cpus, release, totalmem } from 'node:os';
import { availableCores } from '@sluice/core';
import { engineReport, selectBackend } from '@sluice/engine';
import {
  type Ceilings,
  cudaBackend,
  measureCeilings,
  PEAK_INSTRUCTIONS,
  type PeakInstruction,
} from '@sluice/engine/cuda';
import { formatBytes, terminalTable } from '@sluice/observe';
import { programOutput } from '../../run/programOutput.ts';
import { measuredCeilings } from '../ceilings.ts';
import type { OpenSeries, RunStep } from '../step.ts';

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

/** The ceilings by each instruction that the card has for products, its own first. */
export const openSeries: OpenSeries = async (scale) => {
  await selectBackend('cuda');
  const { device } = cudaBackend();
  return {
    names: PEAK_INSTRUCTIONS.filter((instruction) => instruction !== 'wgmma' || device.isHopper),
    facts: undefined,
    run: (instruction) => measureCeilings(device, scale, instruction as PeakInstruction),
  };
};

export const runStep: RunStep = async (context) => {
  const { keep } = context;
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
  const failures: string[] = [];
  const ceilings = await measuredCeilings(context, failures);
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
    ...(ceilings
      ? [
          ['a copy reads and writes', `${ceilings.copyGBps.toFixed(0)} GB/s`],
          [`products by ${ceilings.instruction}`, teraflops(ceilings)],
          ['a launch in a row of them', `${ceilings.launchMicroseconds.toFixed(2)} µs`],
        ]
      : []),
  ];
  const most =
    ceilings && `${ceilings.copyGBps.toFixed(0)} GB/s, ${teraflops(ceilings)} by ${ceilings.instruction}`;
  return {
    verdict: failures.length === 0 ? 'right' : 'wrong',
    summary: `${facts.name}: ${[most, ...failures].filter(Boolean).join('; ')}`,
    text: terminalTable(rows, { align: ['left', 'left'] }),
    data: { ...facts, ...(ceilings && { ceilings }), failures },
  };
};

const teraflops = ({ tensorGflops }: Ceilings) => `${(tensorGflops / 1000).toFixed(1)} TFLOP/s`;
