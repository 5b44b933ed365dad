/** Limits of texts that a model is asked to write: beyond them a request is a mistake that would never end, or means nothing. */

/** Tokens of a text. */
export const MOST_SAMPLED_TOKENS = 2 ** 20;

/** Far below it every token is as likely as any other. */
export const HIGHEST_TEMPERATURE = 100;
