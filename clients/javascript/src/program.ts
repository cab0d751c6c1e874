// The command `genkan-client types URL`: TypeScript of what can be called there.

import { connect, GenkanError } from './index.js';
import { declarations, type Document } from './types.js';

// No types of Node's: a dependency for a few words.
declare const process: {
  argv: string[];
  env: Record<string, string | undefined>;
  exitCode: number;
  stdout: { write(text: string): void };
  stderr: { write(text: string): void };
};

const USAGE = `genkan-client types URL

Prints TypeScript of what can be called through a Genkan gateway, as it tells by rpc.discover:

    npx genkan-client types http://127.0.0.1:8080/api > api.d.ts

Where the gateway wants a token, give it as the environment variable GENKAN_TOKEN.
`;

async function main([command, url, ...rest]: string[]): Promise<void> {
  if (command === '--help' || command === '-h') {
    process.stdout.write(USAGE);
    return;
  }
  if (command !== 'types' || !url || rest.length) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  try {
    const token = process.env.GENKAN_TOKEN;
    const rpc = await connect({ url, transport: 'http', timeout: 10_000, ...(token ? { token: () => token } : {}) });
    const document = await rpc.fetch<Document>('rpc', 'discover');
    rpc.close();
    process.stdout.write(declarations(document, url));
  } catch (error) {
    const why = error instanceof GenkanError ? `${error.kind}: ${error.message}` : String(error);
    process.stderr.write(`genkan-client: ${url} has not told what can be called: ${why}\n`);
    process.exitCode = 1;
  }
}

main(process.argv.slice(2));
