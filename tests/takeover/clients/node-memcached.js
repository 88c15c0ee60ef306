// npm memcached; MODE is default or hash_ring.
const Memcached = require("memcached");
const { readFileSync } = require("fs");

const [mode, ...servers] = process.argv.slice(2);
const weights = {};
for (const server of servers) {
  const [host, port, weight] = server.split(":");
  weights[`${host}:${port}`] = Number(weight);
}
const client = new Memcached(weights, mode === "hash_ring" ? { compatibility: "hash_ring" } : {});
const keys = readFileSync(0, "utf8").split("\n").filter(Boolean);

function storeNext() {
  const key = keys.shift();
  if (key === undefined) {
    client.end();
    return;
  }
  client.set(key, `value of ${key}`, 0, (error, stored) => {
    if (error || !stored) {
      console.error(`not stored: ${key}: ${error}`);
      process.exit(1);
    }
    storeNext();
  });
}

storeNext();
