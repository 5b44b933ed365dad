/** The JSON Schema of a configuration, for editors. */

import { z } from 'zod';

type JsonSchema = Record<string, unknown>;

/**
 * The JSON Schema (draft 7) with which an editor completes and checks the YAML files of `schema`, `extends` and
 * included files allowed. Nothing is required in it, since a file may inherit what it leaves out.
 */
export function jsonSchema(schema: z.ZodType): JsonSchema {
  const root = z.toJSONSchema(schema, {
    io: 'input',
    target: 'draft-7',
    override: ({ jsonSchema: node, path }) => {
      if (node.type !== 'object') return;
      delete node.required;
      if (path.length === 0) return;
      const { title, description, default: initial, ...section } = node;
      for (const key of Object.keys(node)) delete node[key];
      Object.assign(node, {
        ...(title !== undefined && { title }),
        ...(description !== undefined && { description }),
        ...(initial !== undefined && { default: initial }),
        anyOf: [
          section,
          { type: 'string', pattern: '\\.ya?ml$', description: 'A YAML file to include here.' },
        ],
      });
    },
  }) as JsonSchema;
  if (typeof root.properties === 'object' && !Object.hasOwn(root.properties!, 'extends')) {
    const base = {
      type: 'string',
      description: 'A YAML file that this one is laid over; null removes a key.',
    };
    root.properties = { extends: base, ...root.properties };
  }
  return root;
}
