import { type AnyTokenizerJson, modelTokens } from './json.ts';

/** Which token each id of a `tokenizer.json` means. There may be ids between them that mean none. */
export interface TokenTable {
  readonly tokenOfId: ReadonlyMap<number, string>;
  readonly idOfToken: ReadonlyMap<string, number>;
  /** One more than the largest id. */
  readonly size: number;
}

/** @throws Error with the reason, for a file that gives a token two ids, or an id two tokens */
export function tokenTable(json: AnyTokenizerJson): TokenTable {
  const tokenOfId = new Map<number, string>();
  const idOfToken = new Map<string, number>();
  let size = 0;
  const added = json.added_tokens.map(({ content, id }): [string, number] => [content, id]);
  for (const [token, id] of [...modelTokens(json), ...added]) {
    const otherToken = tokenOfId.get(id) ?? token;
    const otherId = idOfToken.get(token) ?? id;
    if (otherToken !== token)
      throw new Error(`the id ${id} means both ${JSON.stringify(otherToken)} and ${JSON.stringify(token)}`);
    if (otherId !== id)
      throw new Error(`the token ${JSON.stringify(token)} has the ids ${otherId} and ${id}`);
    tokenOfId.set(id, token);
    idOfToken.set(token, id);
    size = Math.max(size, id + 1);
  }
  return { tokenOfId, idOfToken, size };
}

/**
 * What to know of a file whose ids Hugging Face's library does not take. It numbers the added tokens that the model lacks by
 * itself, from the number of the model's tokens on, whatever the file says; Sluice takes the file's word.
 */
export function numberingNotes(json: AnyTokenizerJson): string[] {
  const ids = new Map(modelTokens(json));
  let next = ids.size;
  const notes: string[] = [];
  for (const { content, id } of json.added_tokens) {
    if (!ids.has(content)) ids.set(content, next++);
    const libraryId = ids.get(content)!;
    if (libraryId === id) continue;
    notes.push(
      `The tokenizer's file gives ${JSON.stringify(content)} the id ${id}, which Sluice takes; programs that read it with ` +
        `Hugging Face's library will take ${libraryId}.`,
    );
  }
  return notes;
}
