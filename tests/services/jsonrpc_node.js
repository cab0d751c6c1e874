// A JSON-RPC service on Node's own servers: `jsonrpc_node.js http|https|h2|h2c`, on a port of its
// own. KEEP_ALIVE is after how many idle milliseconds it closes, MAX_STREAMS how many calls one connection of
// HTTP/2 may have open; CERT, KEY and CA are files.
// Prints `ready PORT`.
'use strict';

const fs = require('fs');

const kind = process.argv[2];
const read = (name) => (process.env[name] ? fs.readFileSync(process.env[name]) : undefined);
const secure = { cert: read('CERT'), key: read('KEY'), ca: read('CA') };
const streams = Number(process.env.MAX_STREAMS);
const settings = streams ? { maxConcurrentStreams: streams } : {};
if (secure.ca) Object.assign(secure, { requestCert: true, rejectUnauthorized: true });

let connections = 0;
let aborted = 0;
const held = new Set();
const sessions = new WeakMap();

function connection(request) {
  const key = request.stream ? request.stream.session : request.socket;
  if (!sessions.has(key)) sessions.set(key, ++connections);
  return sessions.get(key);
}

function answer(request, method, params) {
  if (['echo', 'goodbye', 'release'].includes(method)) return params;
  if (method !== 'about') throw Object.assign(new Error('Method not found'), { code: -32601 });
  const socket = request.stream ? request.stream.session.socket : request.socket;
  const peer = socket.getPeerCertificate ? socket.getPeerCertificate() : undefined;
  const client = peer && peer.subject ? peer.subject.CN : null;
  const left = parseInt(request.headers['x-request-timeout'], 10);
  const seen = { http: request.httpVersion, connection: connection(request), client, left };
  return { ...seen, aborted, held: held.size };
}

// Newer Nodes keep a connection for a second longer than they say; older ones do not.
function closeIdle(socket, response) {
  clearTimeout(socket.idle);
  response.on('finish', () => {
    socket.idle = setTimeout(() => socket.destroy(), Number(process.env.KEEP_ALIVE));
  });
}

function say(response, reply) {
  const text = JSON.stringify(reply);
  response.writeHead(200, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}

function serve(request, response) {
  connection(request);
  if (process.env.KEEP_ALIVE) closeIdle(request.socket, response);
  let body = '';
  request.setEncoding('utf8');
  request.on('data', (piece) => (body += piece));
  request.on('end', () => {
    const { method, params, id } = JSON.parse(body);
    if (method === 'silent') return response.on('close', () => (aborted += 1));
    if (method === 'held') return held.add(() => say(response, { jsonrpc: '2.0', id, result: 1 }));
    if (method === 'release') held.forEach((go) => go());
    const reply = { jsonrpc: '2.0', id };
    try {
      reply.result = answer(request, method, params);
    } catch (error) {
      reply.error = { code: error.code || -32000, message: error.message };
    }
    say(response, reply);
    // Polite: what has begun is answered, and what comes later is refused.
    if (method === 'goodbye') request.stream.session.close();
  });
}

const servers = {
  http: () => require('http').createServer(serve),
  https: () => require('https').createServer(secure, serve),
  h2: () => require('http2').createSecureServer({ ...secure, settings }, serve),
  h2c: () => require('http2').createServer({ settings }, serve),
};
const server = servers[kind]();
if (process.env.KEEP_ALIVE) server.keepAliveTimeout = Number(process.env.KEEP_ALIVE);
server.listen(0, '127.0.0.1', () => console.log(`ready ${server.address().port}`));
