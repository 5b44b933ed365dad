/** What a `tokenizer.json` puts around every text, by its post-processor. */

import { z } from 'zod';

export interface TokensAround {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const Id = z.int().min(0);
const Marker = z.tuple([z.string(), Id]);

const TemplateItem = z.union([
  z.looseObject({ SpecialToken: z.looseObject({ id: z.string() }) }),
  z.looseObject({ Sequence: z.looseObject({ id: z.string() }) }),
]);

/** The post-processors of Hugging Face's library. */
export const PostProcessorJson = z.discriminatedUnion('type', [
  z
    .looseObject({
      type: z.literal('TemplateProcessing'),
      single: z.array(TemplateItem),
      special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(Id) })),
    })
    .refine(
      ({ single, special_tokens: known }) => namesIn(single).every((name) => Object.hasOwn(known, name)),
      {
        message: 'names a token that special_tokens lacks',
      },
    ),
  z.looseObject({ type: z.enum(['BertProcessing', 'RobertaProcessing']), cls: Marker, sep: Marker }),
  z.looseObject({ type: z.literal('ByteLevel') }),
  z.looseObject({
    type: z.literal('Sequence'),
    get processors() {
      return z.array(PostProcessorJson);
    },
  }),
]);

type PostProcessorJson = z.infer<typeof PostProcessorJson>;

type Template = Extract<PostProcessorJson, { type: 'TemplateProcessing' }>;

function namesIn(items: readonly z.infer<typeof TemplateItem>[]): string[] {
  return items.flatMap((item) => ('SpecialToken' in item ? [(item.SpecialToken as { id: string }).id] : []));
}

/** @throws Error with the reason, for what the library cannot do */
export function tokensAroundBy(processor: PostProcessorJson | null | undefined): TokensAround {
  switch (processor?.type) {
    case 'TemplateProcessing':
      return aroundByTemplate(processor);
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [processor.cls[1]], after: [processor.sep[1]] };
    case 'Sequence':
      return onlyAround(processor.processors);
    default:
      return NOTHING;
  }
}

const NOTHING: TokensAround = { before: [], after: [] };

/** The library would take what the first of several gave for several texts. */
function onlyAround(processors: readonly PostProcessorJson[]): TokensAround {
  const [only, ...more] = processors
    .map(tokensAroundBy)
    .filter(({ before, after }) => before.length + after.length > 0);
  if (more.length > 0) throw new Error('its post_processor adds tokens in two ways');
  return only ?? NOTHING;
}

function aroundByTemplate({ single, special_tokens: known }: Template): TokensAround {
  const text = single.findIndex((item) => 'Sequence' in item);
  const idsOf = (items: typeof single) => namesIn(items).flatMap((name) => known[name]!.ids);
  return { before: idsOf(single.slice(0, text)), after: idsOf(single.slice(text + 1)) };
}

/** A token with its id. */
export interface TextBeginning {
  readonly token: string;
  readonly id: number;
}

/** The post-processor that puts a token before every text, or none, and nothing behind it. */
export function postProcessorFor(beginning: TextBeginning | undefined): object | null {
  if (beginning === undefined) return null;
  const { token, id } = beginning;
  const special = (type_id: number) => ({ SpecialToken: { id: token, type_id } });
  const sequence = (name: string, type_id: number) => ({ Sequence: { id: name, type_id } });
  return {
    type: 'TemplateProcessing',
    single: [special(0), sequence('A', 0)],
    pair: [special(0), sequence('A', 0), special(1), sequence('B', 1)],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } },
  };
}
