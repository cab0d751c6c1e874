// A module on the hub, and a wire that can be cut.

import { once } from 'node:events';
import net from 'node:net';
import { createInterface } from 'node:readline';

const REGISTER = 1, CALL = 3, RESPONSE = 4, TRIGGER = 7, DECLARE = 9;

/** Registers a module; `functions` take an object, and may answer later or never. */
export async function module(address, moduleId, functions) {
  const [host, port] = address.split(':');
  const socket = net.connect(port, host);
  const waiting = new Map();
  let serial = 0;
  const send = (frame) => socket.write(`${JSON.stringify(frame)}\n`);
  const ask = (frame) => new Promise((resolve) => {
    const requestId = `${moduleId}-${++serial}`;
    waiting.set(requestId, resolve);
    send({ ...frame, requestId });
  });
  createInterface(socket).on('line', async (line) => {
    const frame = JSON.parse(line);
    const { type, requestId } = frame;
    if (type === CALL) {
      const data = await functions[frame.function](frame.arguments);
      send({ requestId, type: RESPONSE, data });
    } else {
      waiting.get(requestId)?.(frame);
    }
  });
  await ask({ type: REGISTER, moduleId, version: '1.0.0', dependencies: {} });
  for (const name of Object.keys(functions)) await ask({ type: DECLARE, function: name });
  return {
    trigger: (hook, data) => ask({ type: TRIGGER, hook, data }),
    close: () => socket.destroy(),
  };
}

/** A way to the gateway that can be cut, and be closed for a while. */
export async function wire(url) {
  const { hostname, port } = new URL(url);
  const sockets = new Set();
  let isOpen = true;
  const server = net.createServer((near) => {
    if (!isOpen) return near.destroy();
    const far = net.connect(port, hostname);
    for (const [socket, other] of [[near, far], [far, near]]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => { sockets.delete(socket); other.destroy(); });
      socket.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${server.address().port}/api`,
    cut() { isOpen = false; for (const socket of sockets) socket.destroy(); },
    mend() { isOpen = true; },
    close() { this.cut(); server.close(); },
  };
}
