// What a gateway tells by `rpc.discover` (OpenRPC), as TypeScript: pure.

/** A JSON schema, as far as it is read. */
export type Schema = boolean | { [key: string]: unknown };

interface Param {
  name: string;
  required?: boolean;
  schema?: Schema;
}

interface Method {
  name: string;
  summary?: string;
  paramStructure?: 'by-name' | 'by-position' | 'either';
  params: Param[];
  result?: { schema?: Schema };
  'x-unknown-params'?: boolean;
}

export interface Document {
  methods: Method[];
  components?: { schemas?: Record<string, Schema> };
}

/** Deeper schemas are `any`: what a document holds must not exhaust the stack. */
const DEEPEST = 64;
const REFERS = '#/components/schemas/';

/** The declarations: an interface `Api` with each service's methods, and the types that they share. */
export function declarations({ methods, components }: Document, source: string): string {
  const names = typeNames(Object.keys(components?.schemas ?? {}));
  const type = (schema: Schema | undefined, depth = 0): string => typeOf(schema, names, depth);
  const services = new Map<string, Method[]>();
  for (const method of methods) {
    const service = method.name.slice(0, Math.max(0, method.name.lastIndexOf('.')));
    // A method alone belongs to no service, and is called by none of the client's ways.
    if (service) services.set(service, [...(services.get(service) ?? []), method]);
  }
  const lines = [
    `// What can be called at ${source.replace(/\s/g, ' ')}, as it tells by rpc.discover.`,
    '// Made by `npx genkan-client types`: connect<Api>(…).service("…") is typed by it.',
    '',
    'export interface Api {',
  ];
  for (const [service, offered] of services) {
    lines.push(`  ${key(service)}: {`);
    for (const method of offered) {
      const name = method.name.slice(service.length + 1);
      if (method.summary) lines.push(`    /** ${comment(method.summary)} */`);
      lines.push(`    ${key(name)}(${params(method, type)}): ${type(method.result?.schema)};`);
    }
    lines.push('  };');
  }
  lines.push('}');
  for (const [name, schema] of Object.entries(components?.schemas ?? {})) {
    lines.push('', `export type ${names.get(name)} = ${type(schema)};`);
  }
  return `${lines.join('\n')}\n`;
}

type ToType = (schema: Schema | undefined) => string;

function params(method: Method, type: ToType): string {
  if (method['x-unknown-params']) return '...params: any[]';
  if (!method.params.length) return '';
  const isNeeded = (param: Param) => param.required === true;
  if (method.paramStructure === 'by-position') {
    // One that may be left out is followed by none that may not.
    const last = method.params.map(isNeeded).lastIndexOf(true);
    const listed = method.params.map(({ name, schema }, at) =>
      `${identifier(name, at)}${at > last ? '?' : ''}: ${type(schema)}`);
    return listed.join(', ');
  }
  const members = method.params.map((param) =>
    `${key(param.name)}${isNeeded(param) ? '' : '?'}: ${type(param.schema)}`);
  return `params${method.params.some(isNeeded) ? '' : '?'}: { ${members.join('; ')} }`;
}

function typeOf(schema: Schema | undefined, names: Map<string, string>, depth: number): string {
  if (schema === false) return 'never';
  if (typeof schema !== 'object' || schema === null || depth > DEEPEST) return 'any';
  const type = (inner: unknown) => typeOf(inner as Schema, names, depth + 1);
  const all = (inner: unknown, sign: string) =>
    Array.isArray(inner) && inner.length ? `(${inner.map(type).join(sign)})` : 'any';
  const { $ref: refers } = schema;
  if (typeof refers === 'string') {
    return (refers.startsWith(REFERS) && names.get(refers.slice(REFERS.length))) || 'any';
  }
  if ('const' in schema) return literal(schema.const);
  if (Array.isArray(schema.enum)) return schema.enum.length ? schema.enum.map(literal).join(' | ') : 'never';
  for (const key of ['anyOf', 'oneOf']) if (key in schema) return all(schema[key], ' | ');
  if ('allOf' in schema) return all(schema.allOf, ' & ');
  if (Array.isArray(schema.type)) return all(schema.type.map((type) => ({ ...schema, type })), ' | ');
  switch (schema.type ?? (schema.properties ? 'object' : undefined)) {
    case 'string': return 'string';
    case 'number':
    case 'integer': return 'number';
    case 'boolean': return 'boolean';
    case 'null': return 'null';
    case 'array':
      return Array.isArray(schema.items)
        ? `[${schema.items.map(type).join(', ')}]`
        : `Array<${type(schema.items as Schema)}>`;
    case 'object': return objectType(schema, type);
    default: return 'any';
  }
}

function objectType(schema: { [key: string]: unknown }, type: ToType): string {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>);
  const required = Array.isArray(schema.required) ? schema.required : [];
  const members = properties.map(([name, inner]) =>
    `${key(name)}${required.includes(name) ? '' : '?'}: ${type(inner)}`);
  const more = schema.additionalProperties;
  if (more !== false && (!members.length || typeof more === 'object')) {
    // An index has to take what is named, too.
    members.push(`[key: string]: ${members.length ? 'any' : type(more as Schema)}`);
  }
  return members.length ? `{ ${members.join('; ')} }` : '{}';
}

function literal(value: unknown): string {
  return value !== null && typeof value === 'object' ? 'any' : JSON.stringify(value) ?? 'any';
}

/** The types of schemas: none has another's name. */
function typeNames(schemas: string[]): Map<string, string> {
  const names = new Map<string, string>();
  const taken = new Set(['Api']);
  for (const schema of schemas) {
    const words = schema.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
    const joined = words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('');
    const plain = /^\p{L}/u.test(joined) ? joined : `Type${joined}`;
    let name = plain;
    for (let nth = 2; taken.has(name); nth++) name = `${plain}${nth}`;
    taken.add(name);
    names.set(schema, name);
  }
  return names;
}

function key(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
}

function identifier(name: string, at: number): string {
  const isPlain = /^[A-Za-z_$][\w$]*$/.test(name) && !RESERVED.has(name);
  return isPlain ? name : `param${at + 1}`;
}

const RESERVED = new Set(('break case catch class const continue debugger default delete do else enum export extends '
  + 'false finally for function if import in instanceof new null return super switch this throw true try typeof var '
  + 'void while with yield let static implements interface package private protected public await').split(' '));

function comment(text: string): string {
  return text.replace(/\s+/g, ' ').replaceAll('*/', '* /');
}
