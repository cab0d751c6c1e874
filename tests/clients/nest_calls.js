// Calls made with NestJS's own client:
//
//   node nest_calls.js URL FILE
//
// FILE holds a JSON list of [pattern, data]; one with a third element is emitted as an event. Prints a JSON
// list with the values or the error of each.
'use strict';

const fs = require('fs');
const { ClientProxyFactory, Transport } = require('@nestjs/microservices');
const { lastValueFrom, timeout, toArray } = require('rxjs');

async function main() {
  const [url, file] = process.argv.slice(2);
  const client = ClientProxyFactory.create({ transport: Transport.NATS, options: { servers: [url] } });
  await client.connect();
  const outcomes = [];
  for (const [pattern, data, event] of JSON.parse(fs.readFileSync(file))) {
    try {
      if (event) {
        await lastValueFrom(client.emit(pattern, data), { defaultValue: null });
        await client.unwrap().flush();
        outcomes.push({ emitted: true });
      } else {
        const values = client.send(pattern, data).pipe(timeout(20000), toArray());
        outcomes.push({ values: await lastValueFrom(values) });
      }
    } catch (error) {
      outcomes.push({ error: error instanceof Error ? `${error.name}: ${error.message}` : error });
    }
  }
  process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
}

main();
