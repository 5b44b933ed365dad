/** What may become of a key of a Hugging Face `config.json`, and how messages show its value. */

export type KeyRule =
  | { readonly kind: 'honoured'; readonly by: string }
  | { readonly kind: 'harmless'; readonly because: string }
  | {
      readonly kind: 'refused';
      /** The values that ask for nothing; so does null. */
      readonly unless: readonly unknown[];
      /** What another value asks for. */
      readonly what: string;
      /** Whether `--ignore-config` may pass over it: what it says leaves the logits as they are, or cannot be judged here. */
      readonly ignorable: boolean;
    };

export const honoured = (by: string): KeyRule => ({ kind: 'honoured', by });
export const harmless = (because: string): KeyRule => ({ kind: 'harmless', because });
export const only = (unless: readonly unknown[], what: string): KeyRule => ({
  kind: 'refused',
  unless,
  what,
  ignorable: false,
});
export const judged = (unless: readonly unknown[], what: string): KeyRule => ({
  kind: 'refused',
  unless,
  what,
  ignorable: true,
});

/** Characters of a value that a message shows. */
const SHOWN = 60;

export function show(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}…`;
}
