/** Workers without processes: what they answer is a function of the step, and every call is noted. */

import type { Answer, MethodName, Request, Workers } from '../../../launcher/src/coordinator/workers.ts';

type StepAnswer = Answer<'step'>;

export interface FakeWorkers extends Workers {
  /** Every call in order, e.g. `step 3`, `evaluate`, `save …/step-00000003`. */
  readonly calls: string[];
}

/** @param answer what differs from an ordinary step, for a rank and a step */
export function fakeWorkers(
  answer: (step: number, rank: number, request: Request<'step'>) => Partial<StepAnswer> = () => ({}),
  count = 2,
): FakeWorkers {
  const calls: string[] = [];
  const answerStep = (request: Request<'step'>, rank: number): StepAnswer => {
    const { step } = request;
    return {
      step,
      loss: 5 - step / 100,
      auxiliaryLoss: 0.01,
      gradientNorm: 1,
      groupNorms: {},
      applied: true,
      tokens: 256,
      seconds: {
        total: 0.01 + rank / 1000,
        compute: 0.01,
        waiting: rank / 1000,
        communicate: 0,
        optimize: 0,
      },
      peakMemoryBytes: 1000 + rank,
      ...answer(step, rank, request),
    };
  };
  const methods = {
    initialize: () => ({
      backend: 'fake',
      arithmetic: 'fake',
      threads: 1,
      parameters: { total: 10, active: 5 },
      step: 0,
    }),
    step: answerStep,
    evaluate: () => ({ loss: 4, tokens: 512 }),
    diagnose: ({ sequences }: Request<'diagnose'>) =>
      ({ sequences, layers: [] }) as unknown as Answer<'diagnose'>,
    sample: ({ prompts }: Request<'sample'>, rank: number): Answer<'sample'> => ({
      written: rank > 0 ? [] : prompts.map((tokens, prompt) => ({ prompt, tokens: tokens.slice(0, 2) })),
    }),
    examine: () => ({ probe: { loss: 1, arithmetic: 'fake' }, nonFinite: [] }),
    snapshot: () => ({}),
    restore: () => ({}),
    save: () => ({ shard: {}, state: {} }),
    stage: () => ({ state: {} }),
    write: () => ({}),
    written: () => ({ shard: {} as Answer<'save'>['shard'] }),
    copy: () => ({ shard: {}, state: {} }),
    measure: () => ({ total: [], waiting: [], cpu: [] }),
    stop: () => ({}),
  };
  return {
    count,
    calls,
    async call<Method extends MethodName>(method: Method, request: Request<Method>) {
      calls.push(method === 'step' ? `step ${(request as Request<'step'>).step}` : method);
      const respond = methods[method] as (request: Request<Method>, rank: number) => Answer<Method>;
      return Array.from({ length: count }, (_, rank) => respond(request, rank));
    },
    async stop() {
      calls.push('stop');
    },
    async kill() {
      calls.push('kill');
    },
  };
}
