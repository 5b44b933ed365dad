/** The steps of the kit, in their order. Together they take ten minutes at most on a card. */

import type { KitStep } from './step.ts';

export const KIT_STEPS: readonly KitStep[] = [
  {
    name: 'probe',
    describe:
      'driver, card, memory, compiler; what the card does at most: copies, products on tensor cores, launches',
    limitSeconds: 30,
    load: () => import('./steps/probe.ts'),
  },
  {
    name: 'compile',
    describe: 'machine code of all kernels, where it is not there yet, by all cores',
    limitSeconds: 60,
    load: () => import('./steps/compile.ts'),
  },
  {
    name: 'kernels',
    describe: 'every kernel: its bits against those of the emulator, its values against double precision',
    limitSeconds: 60,
    load: () => import('./steps/kernels.ts'),
  },
  {
    name: 'rates',
    describe:
      'the rate of every kernel at the sizes of the paper’s models, with the share of what the card does at most',
    limitSeconds: 90,
    load: () => import('./steps/rates.ts'),
  },
  {
    name: 'losses',
    describe:
      '20 steps of a model of 30 M parameters beside native’s, from the same weights on the same data',
    limitSeconds: 75,
    load: () => import('./steps/losses.ts'),
  },
  {
    name: 'workers',
    describe:
      'one worker against two: the same bits, of a dense model and of experts; on one GPU by the host’s memory',
    limitSeconds: 60,
    load: () => import('./steps/workers.ts'),
  },
  {
    name: 'resume',
    describe: 'a run that is killed and gone on with has the weights of a quiet one',
    limitSeconds: 60,
    load: () => import('./steps/resume.ts'),
  },
  {
    name: 'dense',
    describe: 'training steps of the 1.7B dense model, 28 layers, 4,096 tokens: time, utilization, memory',
    limitSeconds: 75,
    load: () => import('./steps/dense.ts'),
  },
  {
    name: 'experts',
    describe: 'training steps of one layer of 15B-A2B, with its 128 experts',
    limitSeconds: 45,
    load: () => import('./steps/experts.ts'),
  },
  {
    name: 'torch',
    describe: 'the same products and attention by PyTorch, where Python has it',
    limitSeconds: 45,
    load: () => import('./steps/torch.ts'),
  },
];
