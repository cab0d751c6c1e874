// Ethereum's three libraries, each batching as its users have it: `node ethereum_calls.js URL`.
// Prints, for each, the results of its calls in their order, or the error that it raised.
const { ethers } = require("ethers");
const viem = require("viem");
const { Web3 } = require("web3");

const [url] = process.argv.slice(2);
const CALLS = 250;
const address = (n) => "0x" + n.toString(16).padStart(40, "0");
const numbers = [...Array(CALLS).keys()];
const told = (error) => {
  for (; error.cause; error = error.cause);
  return { code: error.error?.code ?? error.code, message: String(error.message ?? error) };
};
const fails = (call) => call().then((out) => ({ result: String(out) }), (error) => ({ error: told(error) }));

async function withEthers() {
  const provider = new ethers.JsonRpcProvider(url, 1337, { staticNetwork: true });
  const balances = await Promise.all(numbers.map((n) => provider.getBalance(address(n))));
  const failed = await fails(() => provider.send("eth_gasPrice", ["ethers"]));
  provider.destroy();
  return { balances: balances.map(Number), failed };
}

async function withViem() {
  const transport = viem.http(url, { batch: { batchSize: 1000 }, retryDelay: 1 });
  const client = viem.createPublicClient({ transport });
  const balances = await Promise.all(numbers.map((n) => client.getBalance({ address: address(n) })));
  const request = (method) => fails(() => client.request({ method, params: ["viem"] }));
  const [failed, late, missing] = await Promise.all(["eth_gasPrice", "eth_hashrate", "eth_syncing"].map(request));
  return { balances: balances.map(Number), failed, late, missing };
}

async function withWeb3() {
  const web3 = new Web3(url);
  const batch = new web3.BatchRequest();
  const calls = numbers.map((n) =>
    batch.add({ jsonrpc: "2.0", id: `web3-${n}`, method: "eth_getBalance", params: [address(n), "latest"] }));
  calls.forEach((call) => call.catch(() => {}));
  const answers = await batch.execute({ timeout: 60000 });
  const failed = await fails(() => web3.requestManager.send({ method: "eth_gasPrice", params: ["web3"] }));
  return { balances: answers.map((one) => Number(one.result)), ids: answers.map((one) => one.id), failed };
}

(async () => {
  const out = {};
  for (const [name, run] of Object.entries({ ethers: withEthers, viem: withViem, web3: withWeb3 }))
    out[name] = await run().catch((error) => ({ raised: String(error.stack ?? error) }));
  console.log(JSON.stringify(out));
  process.exit(0);
})();
