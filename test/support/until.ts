import { setTimeout } from 'node:timers/promises';

/**
 * Waits until something holds, which it looks at four times a second.
 * @param what a clause: "a successor runs"
 * @returns what `holds` gave in the end
 * @throws Error after `limitSeconds`, saying what did not come to be
 */
export async function until<T>(
  what: string,
  holds: () => T | Promise<T>,
  limitSeconds = 120,
): Promise<NonNullable<T>> {
  for (let waited = 0; waited < limitSeconds; waited += 0.25) {
    const result = await holds();
    if (result) return result;
    await setTimeout(250);
  }
  throw new Error(`After ${limitSeconds} s it was not so that ${what}.`);
}
