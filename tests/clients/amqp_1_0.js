// Publishes to a Nameko exchange over AMQP 1.0, which RabbitMQ translates in its own way.
//   node amqp_1_0.js PORT VHOST USER PASSWORD MESSAGES
// MESSAGES is a list of objects: `subject` (the routing key), `id`, `reply_to`, `body` (text), and
// `as`: what is special. Prints what the broker said to each.
const rhea = require("rhea");

const [port, vhost, username, password, wanted] = process.argv.slice(2);
const shapes = {
  data: (body) => ({ body: rhea.message.data_section(Buffer.from(body)) }),
  value: (body) => ({ body }),
  map: (body) => ({ body: { result: body } }),
  sequence: (body) => ({ body: rhea.message.sequence_section([body, 1]) }),
  "binary ids": (body) => ({ ...shapes.data(body), message_id: Buffer.from([0xff, 0xfe]), group_id: "g" }),
  "many properties": (body) => ({
    ...shapes.data(body),
    application_properties: { text: "ü", number: 1, flag: true, nothing: null },
    message_annotations: { "x-opt-one": 1, "x-opt-two": [1, "2"] },
    creation_time: new Date(),
    durable: true,
    priority: 7,
    ttl: 60000,
  }),
  "large properties": (body) => ({
    ...shapes.data(body),
    application_properties: { pad: "x".repeat(60000) },
  }),
};
const messages = JSON.parse(wanted).map(({ subject, id, reply_to, body, as }) => ({
  subject,
  reply_to,
  correlation_id: as === "binary id" ? Buffer.from([0xff, 1, 2]) : id,
  content_type: "application/json",
  ...(shapes[as] ?? shapes.data)(body),
}));

const said = [];
const container = rhea.create_container();
const end = (out) => {
  console.log(JSON.stringify(out));
  process.exit(0);
};
const settled = (word) => () => {
  said.push(word);
  if (said.length === messages.length) end(said);
};
for (const word of ["accepted", "rejected", "released", "modified"]) container.on(word, settled(word));
for (const word of ["connection_error", "session_error", "sender_error", "disconnected"])
  container.on(word, (context) => end({ [word]: String(context.error ?? context.connection?.error) }));
container.once("sendable", ({ sender }) => messages.forEach((message) => sender.send(message)));
container
  .connect({ host: "127.0.0.1", port: Number(port), hostname: `vhost:${vhost}`, username, password, reconnect: false })
  .open_sender({ target: { address: "/exchange/nameko-rpc" } });
