/** To whom a run is told beside its own logs. Nothing of it changes what is computed. */

import { HIGHEST_TEMPERATURE, MOST_SAMPLED_TOKENS } from '@sluice/core';
import { z } from 'zod';

/** What may be told of. */
export const NOTIFIED_EVENTS = ['start', 'spike', 'rollback', 'fault', 'end'] as const;

/** What a server that is told understands. */
export const NOTICE_TEMPLATES = ['json', 'slack', 'discord', 'teams', 'text'] as const;

const NotifyConfig = z
  .strictObject({
    on: z
      .array(z.enum(NOTIFIED_EVENTS))
      .min(1)
      .default(['start', 'rollback', 'fault', 'end'])
      .describe('What is told: a start or resumption, a spike, a way back, a fault, an end.'),
    urlFile: z
      .string()
      .optional()
      .describe(
        'File that holds the address to send to, which is a secret; relative to the working directory.',
      ),
    urlVariable: z.string().optional().describe('Environment variable that holds it.'),
    tokenFile: z.string().optional().describe('File that holds a token to send as `Authorization: Bearer`.'),
    tokenVariable: z.string().optional().describe('Environment variable that holds it.'),
    template: z
      .enum(NOTICE_TEMPLATES)
      .default('json')
      .describe(
        'What is sent: an object of ours, or what Slack (and Mattermost), Discord, Teams, or a server of plain text (ntfy) understands.',
      ),
    command: z
      .array(z.string())
      .min(1)
      .optional()
      .describe('Program and its words, started with the object on its standard input.'),
    quietSeconds: z
      .number()
      .min(0)
      .default(300)
      .describe('Seconds after a spike in which further ones are only counted.'),
  })
  .refine(
    ({ urlFile, urlVariable, command }) =>
      [urlFile, urlVariable, command].filter((one) => one !== undefined).length === 1,
    { message: 'must have one of urlFile, urlVariable and command' },
  );

export type NotifyConfig = z.infer<typeof NotifyConfig>;

export const SamplesConfig = z
  .strictObject({
    everySteps: z
      .int()
      .min(0)
      .default(0)
      .describe(
        'Steps from one writing of texts by the model to the next, into samples.jsonl of the run; 0: only when it has finished, from the first prompt.',
      ),
    prompts: z
      .array(z.string())
      .default(['A dog is'])
      .describe(
        'Texts that it is asked to go on with; with none, it writes nothing, neither when it has finished.',
      ),
    maxTokens: z.int().min(1).max(MOST_SAMPLED_TOKENS).default(48).describe('Tokens of each text at most.'),
    temperature: z
      .number()
      .min(0)
      .max(HIGHEST_TEMPERATURE)
      .default(0.7)
      .describe('0 for the most likely token each time.'),
  })
  .refine(({ everySteps, prompts }) => everySteps === 0 || prompts.length > 0, {
    path: ['prompts'],
    message: 'must have at least one text where everySteps is not 0',
  })
  .describe('Texts that the model writes as it is trained; the same for any number of workers.');

export type SamplesConfig = z.infer<typeof SamplesConfig>;

export const ObserveConfig = z
  .strictObject({
    tensorboard: z
      .boolean()
      .default(false)
      .describe('Write event files for TensorBoard into the folder tensorboard of the run.'),
    metricsPort: z
      .int()
      .min(0)
      .max(65_535)
      .optional()
      .describe(
        'Port of the coordinator at which Prometheus finds its metrics; 0: a free one. None when left out.',
      ),
    metricsHost: z
      .string()
      .default('127.0.0.1')
      .describe('Address to serve them at; 0.0.0.0 for a Prometheus on another machine.'),
    mlflow: z
      .strictObject({
        url: z
          .string()
          .optional()
          .describe('Address of the server; that of MLFLOW_TRACKING_URI when left out.'),
        experiment: z.string().min(1).default('sluice').describe('Experiment that the run is told to.'),
      })
      .optional()
      .describe('An MLflow server that the run is told to, by a process beside it.'),
    otlp: z
      .strictObject({
        url: z
          .url({ protocol: /^https?$/ })
          .optional()
          .describe(
            'Address of an OpenTelemetry collector, such as http://localhost:4318; that of OTEL_EXPORTER_OTLP_ENDPOINT when left out.',
          ),
        headersFile: z
          .string()
          .optional()
          .describe(
            'File of headers to send, `name: value` in each line, which may be secrets; relative to the working directory. Those of OTEL_EXPORTER_OTLP_HEADERS are sent as well.',
          ),
      })
      .optional()
      .describe('A collector that is told of the steps that have a timeline, as traces.'),
    samples: SamplesConfig.optional(),
    notify: z.array(NotifyConfig).optional().describe('Who is told when something happens.'),
  })
  .describe('To whom the run is told beside its own logs; changes no bit of it.');

export type ObserveConfig = z.infer<typeof ObserveConfig>;
