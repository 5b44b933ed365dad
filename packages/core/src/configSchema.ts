/** Questions about a zod schema: which keys a section has, whether a value may be a section, whether text is a path. */

import { z } from 'zod';

type AnySchema = z.core.$ZodType;

interface AnyDef {
  readonly type: string;
  readonly innerType?: AnySchema;
  readonly in?: AnySchema;
  readonly getter?: () => AnySchema;
  readonly options?: readonly AnySchema[];
  readonly left?: AnySchema;
  readonly right?: AnySchema;
  readonly shape?: Readonly<Record<string, AnySchema>>;
  readonly valueType?: AnySchema;
  readonly element?: AnySchema;
  readonly items?: readonly AnySchema[];
}

const definition = (schema: AnySchema): AnyDef => schema._zod.def as unknown as AnyDef;

/** The schemas that a value may be checked by once optional, default, pipe, union and the like are looked through. */
function alternatives(schema: AnySchema): AnySchema[] {
  const def = definition(schema);
  if (def.type === 'union') return def.options!.flatMap(alternatives);
  if (def.type === 'intersection') return [...alternatives(def.left!), ...alternatives(def.right!)];
  if (def.type === 'pipe') return alternatives(def.in!);
  if (def.type === 'lazy') return alternatives(def.getter!());
  if (def.innerType) return alternatives(def.innerType);
  return [schema];
}

/** Keys that a section checked by `schema` knows; empty when it is no section or takes any key. */
export function sectionKeys(schema: AnySchema): string[] {
  const keys = alternatives(schema).flatMap((one) => Object.keys(definition(one).shape ?? {}));
  return [...new Set(keys)];
}

/** The schemas of `key` within `schema`, one for each alternative that knows the key. Empty for an unknown key. */
export function childSchemas(schema: AnySchema, key: string | number): AnySchema[] {
  return alternatives(schema).flatMap((one) => {
    const def = definition(one);
    if (def.type === 'object') return Object.hasOwn(def.shape!, key) ? [def.shape![key]!] : [];
    if (def.type === 'record') return [def.valueType!];
    if (def.type === 'array') return /^\d+$/.test(String(key)) ? [def.element!] : [];
    if (def.type === 'tuple') return def.items![Number(key)] ? [def.items![Number(key)]!] : [];
    if (def.type === 'any' || def.type === 'unknown') return [one];
    return [];
  });
}

/** The schemas of the value at `path`, one for each alternative that leads there. */
export function schemasAt(schema: AnySchema, path: readonly PropertyKey[]): AnySchema[] {
  return path.reduce<AnySchema[]>(
    (schemas, part) => schemas.flatMap((one) => childSchemas(one, part as string | number)),
    [schema],
  );
}

/** Whether a value can only be a whole number. */
export function isInteger(schema: AnySchema): boolean {
  return alternatives(schema).every(
    (one) => z.toJSONSchema(one, { io: 'input', unrepresentable: 'any' }).type === 'integer',
  );
}

/** Whether a value must be a section (an object), so that text in its place can only be the path of a file. */
export function isSection(schema: AnySchema): boolean {
  return alternatives(schema).every((one) => ['object', 'record'].includes(definition(one).type));
}

/** Whether `schema`, at any level of wrapping, was marked with `.meta({ format: 'path' })`. */
export function isPath(schema: AnySchema): boolean {
  if ((z.globalRegistry.get(schema as z.ZodType) as { format?: unknown } | undefined)?.format === 'path')
    return true;
  const def = definition(schema);
  if (def.type === 'union') return def.options!.some(isPath);
  if (def.type === 'pipe') return isPath(def.in!);
  return def.innerType !== undefined && isPath(def.innerType);
}

/** Every key path of nested sections, e.g. `optimizer.learningRate`; recursion ends at lists, records and 8 levels. */
export function allKeyPaths(schema: AnySchema, prefix = '', depth = 0): string[] {
  if (depth >= 8) return [];
  return sectionKeys(schema).flatMap((key) => [
    `${prefix}${key}`,
    ...childSchemas(schema, key).flatMap((child) => allKeyPaths(child, `${prefix}${key}.`, depth + 1)),
  ]);
}
