'use strict'
// JSON-RPC over HTTP in front of Nameko, as one would write it with Fastify and amqplib: the same
// messages that Genkan sends (a confirm channel, mandatory, an expiration, the same headers), one
// process, nothing that a call does not need.
//
//     server.js AMQP_URL PORT

const { randomBytes, randomUUID } = require('node:crypto')
const amqp = require('amqplib')
const fastify = require('fastify')

const EXCHANGE = 'nameko-rpc'
const TIMEOUT = 30_000

class RpcError extends Error {
  constructor (code, message, data) {
    super(message)
    this.code = code
    this.data = data
  }
}

/** Nameko's RPC over one connection: requests over a confirm channel, replies from a queue. */
class Nameko {
  #pending = new Map()
  #replyTo = randomUUID()
  #requests

  static async connect (url) {
    const nameko = new Nameko()
    const connection = await amqp.connect(url, { noDelay: true })
    connection.on('error', (error) => nameko.#end(error))
    connection.on('close', () => nameko.#end(new Error('the connection was closed')))
    nameko.#requests = await connection.createConfirmChannel()
    nameko.#requests.on('return', ({ properties, fields }) => {
      const service = fields.routingKey.split('.', 1)[0]
      nameko.#settle(properties.correlationId, new RpcError(-32601, `nobody serves ${service}`))
    })
    const replies = await connection.createChannel()
    await replies.assertExchange(EXCHANGE, 'topic', { durable: true })
    const { queue } = await replies.assertQueue(`rpc.reply-${nameko.#replyTo}`, { exclusive: true, autoDelete: true })
    await replies.bindQueue(queue, EXCHANGE, nameko.#replyTo)
    await replies.consume(queue, (message) => nameko.#take(message), { noAck: true, exclusive: true })
    return nameko
  }

  call (service, method, params, traceparent) {
    const id = randomUUID()
    const [args, kwargs] = Array.isArray(params) ? [params, {}] : [[], params ?? {}]
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(id, new RpcError(-32003, 'the deadline passed')), TIMEOUT)
      this.#pending.set(id, { resolve, reject, timer })
      this.#requests.publish(
        EXCHANGE,
        `${service}.${method}`,
        Buffer.from(JSON.stringify({ args, kwargs })),
        {
          mandatory: true,
          persistent: false,
          expiration: TIMEOUT,
          contentType: 'application/json',
          contentEncoding: 'utf-8',
          priority: 0,
          correlationId: id,
          replyTo: this.#replyTo,
          headers: {
            traceparent,
            'nameko.traceparent': traceparent,
            'nameko.call_id_stack': [`genkan.call.${id}`],
            'nameko.deadline': Date.now() + TIMEOUT
          }
        },
        (error) => error && this.#settle(id, new RpcError(-32004, 'the broker did not take the call'))
      )
    })
  }

  #take (message) {
    if (message === null) return this.#end(new Error('the reply queue is gone'))
    let reply
    try {
      reply = JSON.parse(message.content)
    } catch {
      return this.#settle(message.properties.correlationId, new RpcError(-32603, 'the reply is not JSON'))
    }
    const { result, error } = reply
    const fault = error && new RpcError(-32000, error.value, { class: error.exc_type, args: error.exc_args })
    this.#settle(message.properties.correlationId, fault, result)
  }

  #settle (id, error, result) {
    const call = this.#pending.get(id)
    if (call === undefined) return // its deadline has passed
    this.#pending.delete(id)
    clearTimeout(call.timer)
    if (error) call.reject(error)
    else call.resolve(result)
  }

  #end (error) {
    console.error(`RabbitMQ: ${error.message}`)
    process.exit(1)
  }
}

function trace () {
  const random = randomBytes(24).toString('hex')
  return `00-${random.slice(0, 32)}-${random.slice(32)}-01`
}

async function answer (nameko, { id = null, method, params }, traceparent) {
  try {
    const dot = typeof method === 'string' ? method.lastIndexOf('.') : -1
    if (dot < 1) throw new RpcError(-32600, '`method` is to be service.method')
    const result = await nameko.call(method.slice(0, dot), method.slice(dot + 1), params, traceparent)
    return { jsonrpc: '2.0', result, id }
  } catch (error) {
    if (!(error instanceof RpcError)) throw error
    return { jsonrpc: '2.0', error: { code: error.code, message: error.message, data: error.data }, id }
  }
}

async function main ([url, port]) {
  const nameko = await Nameko.connect(url)
  const app = fastify()
  app.post('/api', (request) => answer(nameko, request.body, request.headers.traceparent ?? trace()))
  await app.listen({ host: '127.0.0.1', port: Number(port) })
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error)
  process.exit(1)
})
