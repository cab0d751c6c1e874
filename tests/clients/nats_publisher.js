// Publishes events with the package `@nats-io/transport-node`: nats_publisher.js URL SUBJECT COUNT

'use strict';

const { connect } = require('@nats-io/transport-node');

const [url, subject, count] = process.argv.slice(2);

const main = async () => {
    const nats = await connect({ servers: url });
    for (let n = 0; n < Number(count); n++) {
        nats.publish(subject, JSON.stringify({ n }));
    }
    await nats.drain();
    console.log(JSON.stringify(Number(count)));
};

main();
